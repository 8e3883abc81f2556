"""What the graphical interface shows of a job's results."""

from types import SimpleNamespace

NECESSARY = {
    "histogram": {"title", "data_to_bin", "xlabel", "ylabel", "associated_data"},
    "text": {"title", "display_data", "associated_data"},
    "graph": {"title", "xvalues", "yvalues", "data_series_labels", "associated_data",
              "xaxis_label", "yaxis_label"},
}  # fmt: skip


def create_results_display_object(kind, **kwargs):
    assert set(kwargs) == NECESSARY[kind]
    return SimpleNamespace(dobj_type=kind, **kwargs)


def make_particle_coords_thumb(in_mrc, in_coords, out_dir):
    return SimpleNamespace(dobj_type="image", title="Example picked particles", image_path=in_mrc)
