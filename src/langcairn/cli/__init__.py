"""The command ``langcairn`` (extra ``cli``): looking after stores from a terminal."""
