"""What CADDM alone uses: its anchors, and its facial swap."""
