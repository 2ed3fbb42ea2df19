"""Client of the codecontext service."""
