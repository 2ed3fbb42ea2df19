"""The words that all rooms of the service share: ids, events, errors. Nothing here does anything."""
