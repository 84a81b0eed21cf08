# nomad volume create volume.hcl
id        = "pgdata"
name      = "pgdata"
type      = "csi"
plugin_id = "holdfast"

capacity_min = "2GiB"
capacity_max = "2GiB"

capability {
  access_mode     = "single-node-writer"
  attachment_mode = "file-system"
}

mount_options {
  fs_type     = "xfs"
  mount_flags = ["noatime"]
}

# The keys of the volume spec (docs/volume-spec.md).
parameters {
  repl       = "1"
  io_profile = "db"
}
