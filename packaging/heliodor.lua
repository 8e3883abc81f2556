-- A module file for Lmod. Install heliodor into a virtual environment that all users can read,
-- put its path below, and copy this file to MODULEPATH/heliodor/VERSION.lua.
local root = "/opt/heliodor"

help("heliodor finds the particles in cryoEM micrographs; see heliodor --help")
whatis("Name: heliodor")
whatis("Category: cryoEM, particle picking")

-- Only the programs: the environment's Python would hide that of other modules.
prepend_path("PATH", pathJoin(root, "programs"))
-- Models for all users, as NAME.safetensors.
setenv("HELIODOR_SITE_MODELS", pathJoin(root, "models"))
