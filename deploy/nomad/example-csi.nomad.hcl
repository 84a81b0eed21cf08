# A database on a volume by CSI. The volume is made first: nomad volume create volume.hcl
job "pg-csi" {
  datacenters = ["dc1"]

  group "pg" {
    volume "data" {
      type            = "csi"
      source          = "pgdata"
      access_mode     = "single-node-writer"
      attachment_mode = "file-system"
    }

    task "pg" {
      driver = "docker"
      config {
        image = "postgres:15"
      }
      env {
        POSTGRES_PASSWORD = "change-me"
      }
      volume_mount {
        volume      = "data"
        destination = "/var/lib/postgresql/data"
      }
    }
  }
}
