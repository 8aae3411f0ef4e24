"""What compose.yaml says, as docker-compose understood it, held against the images and the configuration that it mounts."""

import pathlib
import re
import sys

import yaml

found = pathlib.Path(sys.argv[1])
# What threads of the program have to end after the drain (END_MAX in src/main.rs), seconds.
END_MAX = int(re.search(r"END_MAX: Duration = Duration::from_secs\((\d+)\)", pathlib.Path("src/main.rs").read_text())[1])
# Room of the container's memory for what server.memory does not count: program, tokenizers, connections.
ALLOWANCE = 1 << 30

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
checked = 0


def hold(is_so, what):
    global checked
    checked += 1
    if not is_so:
        sys.exit(f"containers: {what}")


def size(text):
    number, unit = re.fullmatch(r"([\d.]+)\s*([a-z]*)", str(text).lower().strip('"')).groups()
    return float(number) * UNITS[unit]


def seconds(text):
    minutes, rest = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups()
    return 60 * int(minutes or 0) + int(rest or 0)


def instructions(path):
    """Of the stage that runs: `INSTRUCTION` → its arguments, lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", pathlib.Path(path).read_text()))
    stage = re.split(r"(?m)^FROM ", text)[-1]
    lines = [line.split(" ", 1) for line in stage.splitlines()[1:] if line.strip()]
    return {name: [rest for at, rest in lines if at == name] for name, _ in lines}


settings = {}
for line in (found / "show").read_text().splitlines():
    key, value = line.rsplit("  # ", 1)[0].split(" = ", 1)
    settings[key] = value.strip('"')

images = {"cpu": "docker/Dockerfile", "gpu": "Dockerfile.cuda"}
for profile, dockerfile in images.items():
    compose = yaml.safe_load((found / f"{profile}.yaml").read_text())
    service = compose["services"][f"server-{profile}"]
    hold(service["profiles"] == [profile], f"server-{profile} has another profile")
    hold(service["build"]["dockerfile"] == dockerfile, f"server-{profile} is built from {service['build']}")

    grace, drain = seconds(service["stop_grace_period"]), int(settings["server.drain_seconds"])
    hold(grace > drain + END_MAX, f"a grace of {grace} s is no more than a drain of {drain} s and {END_MAX} s to end")
    limit, memory = size(service["mem_limit"]), size(settings["server.memory"])
    hold(limit >= memory + ALLOWANCE, f"{profile}: server.memory leaves less than {ALLOWANCE} bytes of {limit:.0f}")
    hold(service["cpus"] > 0 and service["pids_limit"] > 0, f"{profile}: no limit of processors or processes")
    hold(service["logging"]["options"].keys() == {"max-size", "max-file"}, f"{profile}: logs are not rotated")
    hold(service["init"] and service["read_only"] and service["cap_drop"] == ["ALL"], f"{profile}: not confined")
    hold("no-new-privileges:true" in service["security_opt"], f"{profile}: not confined")

    # Docker writes ports as text or as a mapping, by its version.
    port = service["ports"][0]
    port = port if isinstance(port, str) else f"{port['host_ip']}:{port['published']}:{port['target']}/tcp"
    hold(port.split("/")[0] == f"127.0.0.1:8000:{settings['server.port']}", f"{profile}: published as {port}")
    hold(settings["server.host"] == "0.0.0.0", "the server cannot be reached in its container")

    image = instructions(dockerfile)
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    hold(set(mounts) == {"/models", "/data", "/etc/quarry/quarry.yaml"}, f"{profile}: mounts {sorted(mounts)}")
    mounted = mounts["/etc/quarry/quarry.yaml"]
    hold(mounted["read_only"] and mounted["source"].endswith("docker/quarry.yaml"), f"{profile}: mounts {mounted}")
    hold(pathlib.Path(mounted["source"]).is_file(), f"{mounted['source']} is no file")
    hold(image["WORKDIR"][-1] == "/etc/quarry", f"{dockerfile}: quarry.yaml is not in the folder where it is looked for")
    hold(image["COPY"][-1] == "docker/quarry.yaml /etc/quarry/quarry.yaml", f"{dockerfile}: another configuration")
    hold(image["USER"] == ["10001:10001"], f"{dockerfile}: runs as {image.get('USER')}")
    hold("QUARRY_CACHE=/models" in image["ENV"], f"{dockerfile}: models are kept outside the volume")
    hold(settings["storage.data_dir"] == "/data", "data are kept outside the volume")
    probe = service["healthcheck"]
    in_image = re.fullmatch(
        r"--interval=(\S+) --timeout=(\S+) --start-period=(\S+) --retries=(\d+) CMD (\[.*\])", image["HEALTHCHECK"][0]
    ).groups()
    in_compose = [probe[key] for key in ("interval", "timeout", "start_period", "retries")]
    hold([str(value) for value in in_compose] == list(in_image[:4]), f"{profile}: image and compose probe differently")
    hold(["CMD", *yaml.safe_load(in_image[4])] == probe["test"], f"{profile}: image and compose probe differently")

devices = compose["services"]["server-gpu"]["deploy"]["resources"]["reservations"]["devices"]
hold(devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}], f"the gpu profile reserves {devices}")
hold(compose["services"]["server-gpu"]["environment"] == {"QUARRY__SERVER__DEVICE": "cuda"}, "gpu may fall back to the CPU")
print(f"compose.yaml, the images and docker/quarry.yaml agree: {checked} points")
