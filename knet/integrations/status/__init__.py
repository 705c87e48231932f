"""
The page that shows rings: what is gathered of them, how it is drawn and written, and who serves it.
"""
