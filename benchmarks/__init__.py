"""Speed and size of langcairn beside LangGraph's own savers, on calls recorded from real graphs."""
