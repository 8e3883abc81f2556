"""STAR files with a single loop in the block that is asked for."""


class StarFile:
    def __init__(self, name):
        with open(name) as stream:
            self.lines = [line.strip() for line in stream]

    def get_block(self, name):
        lines = self.lines[self.lines.index(f"data_{name}") + 1 :]
        return _Block(lines)


class _Block:
    def __init__(self, lines):
        self.columns = [line.split()[0] for line in lines if line.startswith("_")]
        self.rows = [line.split() for line in lines if line and line[0] not in "_#l"]

    def find(self, columns):
        places = [self.columns.index(column) for column in columns]
        return [[row[place] for place in places] for row in self.rows]
