"""What the page of a report shows beside its tables, as data: charts, gaps, published numbers, origins."""
