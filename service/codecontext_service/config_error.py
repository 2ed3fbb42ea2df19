"""What is raised for options that can't be used."""


class ConfigError(ValueError):
    """An option's value can't be used; the text names the option and what would be right."""
