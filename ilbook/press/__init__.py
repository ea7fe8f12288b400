"""Everything that turns notebooks into pages: running them, checking them, building the site."""
