"""langcairn for LangGraph."""
