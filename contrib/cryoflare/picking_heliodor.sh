#!/bin/bash --noprofile
# Picks one micrograph with heliodor, as a task of CryoFLARE; see README.md.
set -u
set -e
######################## parameters from CryoFLARE ##############################
# Declares aligned_micrograph, apix_x, raw_movie, scratch and picking_input_*.
. data_connector.sh
######################## the program ############################################
# The name of the program on the PATH, or its full path.
heliodor_exe=${picking_input_heliodor:-heliodor}
######################## RELION job #############################################
rln_jobtype=AutoPick
rln_jobid=5
rln_alias=heliodor
rln_starname=coords_suffix_autopick.star
rln_nodetype=2
rln_inputstar=MotionCorr/job003/corrected_micrographs.star
RELION_CREATE_JOB "$rln_jobtype" "$rln_jobid" "$rln_alias" "$rln_starname" "$rln_nodetype" "$rln_inputstar"
######################## output files ###########################################
picking_base=$rln_jobpath/${raw_movie%%.*}
mkdir -p "$(dirname "$picking_base")"
picking_log=${picking_base}_heliodor.log
picking_boxes=${picking_base}_autopick.box
picking_rejected_boxes=${picking_base}_rejected.box
picking_star_file=${picking_base}_autopick.star
picking_quality=${picking_base}_heliodor.tsv
FILES picking_log picking_boxes picking_rejected_boxes picking_star_file picking_quality

# Give a file its final name when it is complete: CryoFLARE takes a file that exists as done.
place() {
  cp "$1" "$2.new"
  mv "$2.new" "$2"
}

######################## picking, if files are missing ##########################
if FILES_MISSING; then
  picking_model=${picking_input_model:-}
  picking_diameter=${picking_input_diameter:-}
  if [ -z "$picking_model" ] && [ -z "$picking_diameter" ]; then
    echo "give the particle diameter in angstrom (picking_input_diameter) or a model" \
      "(picking_input_model)" >&2
    exit 2
  fi
  if [ -z "${picking_input_box:-}" ] && [ -z "$picking_diameter" ]; then
    echo "give the box size in pixels (picking_input_box) or the particle diameter in angstrom" \
      "(picking_input_diameter)" >&2
    exit 2
  fi
  # Of at least 1.5 diameters, and even.
  picking_box=${picking_input_box:-$(awk -v d="$picking_diameter" -v a="$apix_x" \
    'BEGIN { h = 0.75 * d / a; n = int(h); if (n < h) n++; print 2 * n }')}
  picking_params=" --pixel-size $apix_x --progress lines --threads ${picking_input_threads:-1}"
  if [ -n "$picking_model" ]; then
    picking_params+=" --model $picking_model"
  else
    picking_params+=" --diameter $picking_diameter"
  fi
  if [ -n "${gpu_id:-}" ]; then
    picking_params+=" --device cuda:$gpu_id"
  else
    picking_params+=" --device cpu"
  fi
  if [ -n "${picking_input_threshold:-}" ]; then
    picking_params+=" --threshold $picking_input_threshold"
  fi
  if [ -n "${picking_input_exclusion_radius:-}" ]; then
    picking_params+=" --exclusion-radius $picking_input_exclusion_radius"
  fi
  if [ -n "${picking_input_bad_areas:-}" ]; then
    picking_params+=" --bad-areas $picking_input_bad_areas"
  fi
  RUN $heliodor_exe pick $aligned_micrograph -o $scratch/picks $picking_params \
    > $scratch/log 2>&1 || { status=$?; cat $scratch/log >&2; exit $status; }
  picks=$(find $scratch/picks -name '*_autopick.star')
  RUN $heliodor_exe convert $picks -o $scratch/boxes --to box --box-px $picking_box \
    --micrographs $aligned_micrograph --trust \
    >> $scratch/log 2>&1 || { status=$?; cat $scratch/log >&2; exit $status; }
  : > $scratch/rejected
  boxes=$(find $scratch/boxes -name '*.box')
  if [ -z "$boxes" ]; then  # not a single pick
    boxes=$scratch/rejected
  fi
  place $scratch/log "$picking_log"
  place $scratch/rejected "$picking_rejected_boxes"
  place $scratch/picks/micrographs.tsv "$picking_quality"
  place "$boxes" "$picking_boxes"
  place "$picks" "$picking_star_file"
fi
######################## list for RELION ########################################
picking_star=$rln_jobpath/$rln_starname
echo $rln_inputstar > $picking_star
SHARED_FILES picking_star
######################## results ################################################
# Print the value in a column of the table of the micrograph.
column() {
  awk -F'\t' -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) c = i }
    NR == 2 && c { print $c }' "$picking_quality"
}

picking_num_particles=$(column picks)
picking_threshold=$(sed -n 's/^# threshold \([^ ]*\).*/\1/p' "$picking_star_file")
picking_contaminated_share=$(column bad_area)
RESULTS picking_num_particles picking_threshold picking_contaminated_share
