"""What operators see over HTTP, on the ops listener."""
