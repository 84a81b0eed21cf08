# The CSI plugin of each client: a relay between the socket that Nomad gives a plugin and the one of the client's own
# holdfastd, which runs on the machine and not in an allocation. docs/schedulers/nomad.md has what must be there before.
job "holdfast-csi" {
  datacenters = ["dc1"]
  type        = "system"

  group "relay" {
    task "relay" {
      driver = "docker"

      config {
        image   = "alpine/socat"
        args    = ["UNIX-LISTEN:/csi/csi.sock,fork,unlink-early", "UNIX-CONNECT:/holdfast/csi.sock"]
        volumes = ["/run/holdfast-csi:/holdfast"]
      }

      csi_plugin {
        id   = "holdfast"
        type = "monolith" # any client's daemon answers the controller's calls
        # Where Nomad tells the plugin to mount is a path of the machine, since that is where the plugin is:
        # <data_dir>/client/csi/<type>/<id>.
        mount_dir              = "/csi"
        stage_publish_base_dir = "/opt/nomad/data/client/csi/monolith/holdfast"
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
