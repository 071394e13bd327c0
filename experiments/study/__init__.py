"""What every study shares: flags, cells, records, claims, pictures."""
