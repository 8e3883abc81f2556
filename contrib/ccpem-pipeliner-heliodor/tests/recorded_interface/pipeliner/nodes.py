"""The kinds of files."""

NODE_MICROGRAPHGROUPMETADATA = "MicrographGroupMetadata"
NODE_MICROGRAPHCOORDSGROUP = "MicrographCoordsGroup"
NODE_PARTICLEGROUPMETADATA = "ParticleGroupMetadata"
NODE_MLMODEL = "MlModel"


class Node:
    def __init__(self, name, type):
        self.name, self.type = name, type
