"""The table of docs/performance.md from results.json. What is not in the results is "not measured"."""

NOT_MEASURED = "not measured"
PARTS = ("device", "directory", "node", "docker")
CASES = (
    ("write_4k_qd1", "4 KiB durable random write, depth 1 (bare: one 8 KiB journal record)", ">= 0.90 in process", 0.90),
    ("write_4k_qd32", "4 KiB durable random write, depth 32", "> 1.00", 1.00),
    ("read_4k_qd1", "4 KiB random read, depth 1", ">= 0.90", 0.90),
    ("read_4k_qd32", "4 KiB random read, depth 32", ">= 0.90", 0.90),
    ("write_128k_seq_qd8", "128 KiB sequential durable write, depth 8", ">= 0.90", 0.90),
    ("write_128k_fresh_qd8", "128 KiB sequential durable write, depth 8, on a volume never written before", "", None),
    ("read_128k_seq_qd8", "128 KiB sequential read, depth 8", ">= 0.90", 0.90),
)


def get(results, *path):
    for key in path:
        if not isinstance(results, dict) or key not in results:
            return None
        results = results[key]
    return results


def show(value, pattern="{}"):
    return NOT_MEASURED if value is None else pattern.format(value)


def verdict(value, good):
    return NOT_MEASURED if value is None else ("yes" if good(value) else "**no**")


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def ratio(side):
    if side is None:
        return NOT_MEASURED
    return f"{side['ratio']:.2f} ({side['ratio_low']:.2f}-{side['ratio_high']:.2f})"


def head(results):
    facts = results["facts"]
    disk = facts["disk"]
    lines = [
        f"Measured {facts['when']} at commit `{facts['commit']}`{'' if facts['tree_is_clean'] else ' with changes'}, "
        f"in {results.get('took_seconds', '?')} s{', quick rounds' if results['quick'] else ''}.",
        "",
        row("machine", ""), row("---", "---"),
        row("CPU", f"{facts['cpu']}, {facts['cpus']} processors ({facts['virtual_machine']})"),
        row("memory", f"{facts['memory_bytes'] / 2**30:.0f} GiB"),
        row("kernel", facts["kernel"]),
        row("disk", f"{disk['device']} {disk['model']} {disk['size_bytes'] / 2**30:.0f} GiB, {disk['write_cache']}, "
                    f"scheduler {disk['scheduler']}"),
        row("file system", f"{disk['file_system']} ({disk['mount_options']})"),
        row("load when it began, when it ended", f"{facts['load_at_start']:.2f}, {show(facts.get('load_at_end'), '{:.2f}')}"),
        "",
    ]
    for part in PARTS:
        error = get(results, part, "error")
        if error:
            lines += [f"**{part}: {error}.**", ""]
    return lines


def io_tables(results):
    lines = ["### Device pool against the bare loop device that it lies on", "",
             "Operations per second; ratios are the median of the rounds (lowest-highest).", "",
             row("operation", "bare /s", "file of the same XFS: ratio", "bare reads of our segment files, CRC checked: ratio",
                 "in process /s", "ratio", "aim", "met", "NBD socket /s", "ratio",
                 "us CPU per operation: bare, XFS, checked, in process, NBD"),
             row(*["---"] * 11)]
    for name, text, aim, limit in CASES:
        case = get(results, "device", "cases", name) or {}
        bare, xfs, checked, ours, nbd = (case.get(side) for side in ("bare", "bare_xfs", "bare_checked", "in_process", "nbd"))
        cpu = ", ".join(show(get(side or {}, "cpu_us_per_op"), "{:.1f}") if side else "-"
                        for side in (bare, xfs, checked, ours, nbd))
        through = (show(get(nbd, "per_second"), "{:.0f}"), ratio(nbd)) if nbd else ("-", "-")
        met = verdict(get(case, "in_process", "ratio"), lambda v, limit=limit: v >= limit) if limit else ""
        lines.append(row(text, show(get(case, "bare", "per_second"), "{:.0f}"), ratio(xfs) if xfs else "-",
                         ratio(checked) if checked else "-",
                         show(get(case, "in_process", "per_second"), "{:.0f}"), ratio(ours), aim, met, *through,
                         cpu if case else NOT_MEASURED))
    lines += ["", "### Directory pool against a bare file of the same directory", "",
              "Loop device and XFS count as ours here; the journal lies beside them, on the host's file system.", "",
              row("operation", "bare /s", "in process /s", "ratio", "NBD socket: ratio", "us CPU per operation: bare, in process"),
              row(*["---"] * 6)]
    for name, text, _, _ in CASES:
        case = get(results, "directory", "cases", name) or {}
        cpu = ", ".join(show(get(case, side, "cpu_us_per_op"), "{:.1f}") for side in ("bare", "in_process"))
        lines.append(row(text, show(get(case, "bare", "per_second"), "{:.0f}"),
                         show(get(case, "in_process", "per_second"), "{:.0f}"), ratio(case.get("in_process")),
                         ratio(case["nbd"]) if "nbd" in case else "-", cpu if case else NOT_MEASURED))
    return lines + [""]


def snapshot_table(results):
    def at(storage, key):
        return get(results, storage, "snapshots", key)

    rows = (
        ("snapshot, median ms", "median_ms", "< 50", lambda v: v < 50),
        ("snapshot, worst ms", "worst_ms", "< 50", lambda v: v < 50),
        ("first ms", "first_ms", "", None),
        ("last ms", "last_ms", "like the first", None),
        ("longest write while snapshots are cut, ms", "longest_write_stall_ms", "< 20", lambda v: v < 20),
        ("longest write of the same load without, ms", "longest_write_before_ms", "", None),
        ("random-write speed after the first snapshot / before", "ratio_after", ">= 0.50", lambda v: v >= 0.5),
    )
    count = at("device", "count")
    written = at("device", "written_bytes_before")
    lines = [f"### {show(count)} snapshots of a 10 GiB volume under eight random writers", "",
             f"Written before at random in 4 KiB pieces: {show(written and written // 2**20)} MiB. The other load of the "
             "machine's disk shows in both lines of the longest write.", "",
             row("", "device pool", "aim", "met", "directory pool"), row(*["---"] * 5)]
    for text, key, aim, good in rows:
        value = at("device", key)
        lines.append(row(text, show(value, "{:.2f}"), aim, verdict(value, good) if good else "",
                         show(at("directory", key), "{:.2f}")))
    return lines + [""]


def node_table(results):
    def at(*path):
        return get(results, "node", *path)

    mib = 2**20
    rss, added = at("idle", "rss_bytes"), at("volumes", "added_rss_bytes")
    count = show(at("volumes", "count"))
    rows = (
        ("inline create to mounted ext4 of 10 GiB, as the engine asks for it, ms",
         show(at("create_to_mounted", "ours_ms", "median"), "{:.0f}"), "< 300",
         verdict(at("create_to_mounted", "ours_ms", "median"), lambda v: v < 300)),
        ("the slowest of them, ms", show(at("create_to_mounted", "ours_ms", "high"), "{:.0f}"), "", ""),
        ("bare mkfs.ext4 and mount beside it, ms",
         show(at("create_to_mounted", "bare_mkfs_mount_ms", "median"), "{:.0f}"), "", ""),
        ("idle daemon, % of a core", show(at("idle", "cpu_percent"), "{:.2f}"), "< 1",
         verdict(at("idle", "cpu_percent"), lambda v: v < 1)),
        ("idle daemon, MiB resident", show(rss and rss / mib, "{:.1f}"), "< 64", verdict(rss, lambda v: v < 64 * mib)),
        (f"{count} idle volumes, MiB more", show(None if added is None else added / mib, "{:.1f}"), "< 16",
         verdict(added, lambda v: v < 16 * mib)),
        (f"daemon with {count} idle volumes, % of a core", show(at("volumes", "idle_cpu_percent"), "{:.2f}"), "< 1",
         verdict(at("volumes", "idle_cpu_percent"), lambda v: v < 1)),
        (f"creating {count} volumes, one after the other, per second", show(at("volumes", "create_per_second"), "{:.0f}"), "", ""),
        (f"`docker volume ls` of {count} (plugin List), ms", show(at("volumes", "docker_list_ms"), "{:.0f}"), "", ""),
        ("`docker volume inspect` among them (plugin Get), ms", show(at("volumes", "docker_get_ms"), "{:.1f}"), "", ""),
        ("`holdfast --json volume list`, ms", show(at("volumes", "cli_list_ms"), "{:.0f}"), "", ""),
    )
    return ["### The daemon", "", row("", "measured", "aim", "met"), row(*["---"] * 4)] + [row(*one) for one in rows]


def docker_table(results):
    def ms(way, key):
        side = get(results, "docker", way, key)
        return NOT_MEASURED if side is None else f"{side['median']:.0f} ({side['low']:.0f}-{side['high']:.0f})"

    over = get(results, "docker", "create_to_mounted_ms")
    lines = ["", "### `docker run`, from its start until its container has written durably to /data", "",
             "A real engine; the median in ms (lowest-highest). The container ends at once, so the last column has the unmount too.", "",
             row("/data is", "until it runs", "until `docker run` returns"), row(*["---"] * 3)]
    for way, text in (("holdfast", "`--volume-driver holdfast -v size=10G,fs=ext4,name=…`, made by this command"),
                      ("again", "the same volume, once it is there"), ("local", "a local volume of Docker, made by this command"),
                      ("bind", "a directory of the host"), ("bare", "mkfs.ext4 and mount of 10 GiB by hand before it, their time included")):
        lines.append(row(text, ms(way, "up_ms"), ms(way, "end_ms")))
    difference = NOT_MEASURED if over is None else f"{over['median']:.0f} ({over['low']:.0f}-{over['high']:.0f})"
    return lines + ["", row("", "measured", "aim", "met"), row(*["---"] * 4),
                    row("inline create to mounted 10 GiB ext4: what it adds to the same with a local volume, ms", difference, "< 300",
                        verdict(over and over["median"], lambda v: v < 300)),
                    row("bare mkfs.ext4 and mount beside it, ms", ms("bare", "mkfs_mount_ms"), "", "")]


def render(results):
    tables = (head, io_tables, snapshot_table, node_table, docker_table)
    return "\n".join(line for table in tables for line in table(results)) + "\n"


FAILOVER = (
    ("takeover_killed", "node of the container killed: until the first write on another node", 1.0),
    ("takeover_frozen", "node of the container frozen: the same", 2.0),
    ("takeover_cut", "node of the container cut off: the same", 2.0),
    ("move", "planned move: from the unmount to the first write", 0.15),
    ("stall_killed", "a replica's node killed: longest write", 0.6),
    ("stall_frozen", "a replica's node frozen: longest write", 1.0),
    ("stall_cut", "a replica's node cut off: longest write", 1.0),
)


def render_failover(results):
    cases = results["failover"]
    lines = head(results)
    if "error" in cases:
        lines += [f"**{cases['error']}.**", ""]
    lines += ["Three nodes on this one machine, a volume of three replicas, ext4, one writer of durable 4 KiB. Seconds. etcd: the node that dies led it "
              "in so many of the cases, and the others had to agree on another leader first.", "",
              row("case", "median", "worst", "aim, worst", "met", "repetitions", "etcd"), row(*["---"] * 7)]
    for name, text, aim in FAILOVER:
        case = cases.get(name) or {}
        led = sum(1 for note in case.get("notes", []) if note.get("etcd_led"))
        lines.append(row(text, show(case.get("median_s"), "{:.3f}"), show(case.get("high_s"), "{:.3f}"), f"<= {aim}",
                         verdict(case.get("high_s"), lambda v, aim=aim: v <= aim), show(case.get("count")),
                         led if case and name != "move" else "-"))
    data = cases.get("data_path") or {}
    lines += ["", "### The data path of three replicas", "",
              "Through one node's NBD socket, by fio, which starts from its own processor time; the daemons share the machine's processors.", "",
              row("durable 4 KiB random write", "measured", "aim", "met"), row(*["---"] * 4),
              row("depth 1, us", show(data.get("qd1_ours_us"), "{:.0f}"), "", ""),
              row("the floor, us: bare O_DIRECT, O_DSYNC write", show(data.get("qd1_bare_us"), "{:.0f}"), "", ""),
              row("the floor, us: 4 KiB over loopback and back", show(data.get("qd1_round_trip_us"), "{:.0f}"), "", ""),
              row("depth 1 / the floor", show(data.get("qd1_ratio"), "{:.2f}"), "<= 1.35",
                  verdict(data.get("qd1_ratio"), lambda v: v <= 1.35)),
              row("depth 32, per second", show(data.get("qd32_per_second"), "{:.0f}"), "", ""),
              row("depth 32, us of processor per write, all three daemons", show(data.get("qd32_cpu_us"), "{:.1f}"), "<= 45",
                  verdict(data.get("qd32_cpu_us"), lambda v: v <= 45)), ""]
    return "\n".join(lines)
