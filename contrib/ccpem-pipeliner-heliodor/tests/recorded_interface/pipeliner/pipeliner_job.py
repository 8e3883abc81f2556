"""The base class of jobs."""

import os
import shlex
import sys

from pipeliner.job_options import IntJobOption, JobOptionValidationResult, StringJobOption
from pipeliner.nodes import Node


class PipelinerCommand:
    def __init__(self, cmd, *, relion_control=False, allow_failure=False):
        self.cmd = cmd

    def get_final_command(self, output_dir):
        words = [str(word) for word in self.cmd]
        return [sys.executable, *words[1:]] if words[0] == "python3" else words


class Ref:
    def __init__(self, authors=None, title="", journal="", year="", volume="", issue="", pages="",
                 doi=""):  # fmt: skip
        assert title
        assert journal
        assert year
        self.authors, self.title, self.doi = authors, title, doi


class JobInfo:
    def __init__(self):
        self.display_name, self.short_desc, self.long_desc = "", "", ""
        self.programs, self.references = [], []

    @property
    def is_available(self):
        return all(program.exe_path for program in self.programs)


class PipelinerJob:
    PROCESS_NAME, OUT_DIR, CATEGORY_LABEL = "", "", ""

    def __init__(self):
        self.jobinfo, self.joboptions, self.output_nodes = JobInfo(), {}, []
        self.output_dir, self.can_continue, self.is_continue = "", False, False

    def get_runtab_options(self, mpi=False, threads=False, addtl_args=False):
        if threads:
            self.joboptions["nr_threads"] = IntJobOption(
                label="Number of threads:", default_value=1, hard_min=1
            )
        if addtl_args:
            self.joboptions["other_args"] = StringJobOption(
                label="Additional arguments:", default_value=""
            )

    def get_nr_threads(self):
        return int(self.joboptions["nr_threads"].get_number())

    def parse_additional_args(self):
        return shlex.split(self.joboptions["other_args"].get_string())

    def add_output_node(self, file_name, node_type, keywords=None):
        suffix = os.path.splitext(file_name)[1].lstrip(".")
        path = os.path.join(self.output_dir, file_name)
        self.output_nodes.append(Node(path, ".".join([node_type, suffix, *(keywords or [])])))

    def additional_joboption_validation(self):
        return []

    def validate_joboptions(self):
        found = [r for option in self.joboptions.values() for r in option.validate()]
        found += self.additional_joboption_validation()
        for option in self.joboptions.values():
            condition = option.required_if
            if option.is_blank and condition is not None and condition.is_met(self.joboptions):
                found.append(JobOptionValidationResult("error", [option], "Is required"))
        return found

    def gather_metadata(self):
        return {}
