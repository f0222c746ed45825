"""SSD and SSDLite."""
