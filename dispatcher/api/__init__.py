"""The tenants' HTTP API: who asks, what is asked, and problems in words; what may be done is left to `admin`."""
