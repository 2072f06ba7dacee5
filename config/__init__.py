"""Settings: one row each (name, type, default, help), read once per process from config/app.ini and the environment."""
