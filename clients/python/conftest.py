pytest_plugins = ["pytest_reflector", "pytester"]
