"""What an audit found, as documents that others show: SARIF for code scanning."""
