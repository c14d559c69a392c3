"""What tests stand on: servers, proxies, clocks, factories of rows."""
