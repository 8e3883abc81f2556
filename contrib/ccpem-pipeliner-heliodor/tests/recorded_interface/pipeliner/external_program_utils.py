"""Programs that jobs run."""

import shutil


class ExternalProgram:
    def __init__(self, command, name=None, vers_com=None, onedep_categories=None):
        self.command, self.name, self.vers_com = command, name or command, vers_com
        self.exe_path = shutil.which(command)
