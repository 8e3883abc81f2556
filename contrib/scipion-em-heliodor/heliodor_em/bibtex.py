"""
@misc{heliodor,
  title = {heliodor: particle picking in cryoEM micrographs},
  author = {{heliodor developers}},
  year = {2026},
  note = {Version 0.1.0}
}

@article{Bepler2019,
  title = {Positive-unlabeled convolutional neural networks for particle picking in cryo-electron micrographs},
  author = {Bepler, Tristan and Morin, Andrew and Rapp, Micah and Brasch, Julia and Shapiro, Lawrence and Noble, Alex J. and Berger, Bonnie},
  journal = {Nature Methods},
  volume = {16},
  pages = {1153--1160},
  year = {2019},
  doi = {10.1038/s41592-019-0575-8}
}
"""
