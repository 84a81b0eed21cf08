# The same by the Docker driver: the spec stands in the job, and the volume is made at its first use. Needs no plugin job.
# With count above 1 each allocation has a volume of its own by its index.
job "pg-docker" {
  datacenters = ["dc1"]

  group "pg" {
    count = 1

    task "pg" {
      driver = "docker"
      config {
        image         = "postgres:15"
        volume_driver = "holdfast"
        volumes       = ["name=pgdata-${NOMAD_ALLOC_INDEX},size=2G,fs=xfs,io_profile=db:/var/lib/postgresql/data"]
      }
      env {
        POSTGRES_PASSWORD = "change-me"
      }
    }
  }
}
