"""Compares what kustomize has rendered with schemas, and with what no schema knows.

usage: check.py RENDERED DIRECTORY    nats-server's configuration goes to the directory
"""

import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.37"
# Models of custom resources, made from their projects' definitions.
MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
HERE = pathlib.Path(__file__).parent
POLICY = HERE.parent / "base/policy.toml"
PROGRAMS = HERE.parents[1] / "target/release"
# Made by hand; see ../README.md.
BY_HAND = {("ConfigMap", "hermesh-roots"), ("Secret", "receipts")}
# Of the sidecar, which has 5 s for its own end, and of Kubernetes.
MARGIN_SECONDS = 10


@functools.cache
def schema(version, kind):
    if version == "policy.cert-manager.io/v1alpha1":
        return json.loads((HERE / f"{kind.lower()}.json").read_text())
    return strict(getattr(importlib.import_module(MODELS[version]), kind).model_json_schema(by_alias=True))


def strict(schema):
    """The schema, without room for fields that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    # Go lets flags stand anywhere, Python only in front.
    if "(?i)" in str(schema.get("pattern")):
        schema["pattern"] = "(?i)" + schema["pattern"].replace("(?i)", "")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def against_schema(resource):
    version = resource["apiVersion"]
    group = version.partition("/")[0]
    if version in MODELS or group == "policy.cert-manager.io":
        jsonschema.validate(resource, schema(version, resource["kind"]))
    else:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def pods(resources):
    for resource in resources:
        if resource["kind"] in ("Deployment", "StatefulSet"):
            yield resource["metadata"]["name"], resource, resource["spec"]["template"]["spec"]


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def pod(name, resource, spec, there):
    labels = resource["spec"]["template"]["metadata"]["labels"]
    selector = resource["spec"]["selector"]["matchLabels"]
    expect(selector.items() <= labels.items(), "it does not select its own pods")
    expect(spec["automountServiceAccountToken"] is False, "it gets a token of Kubernetes")
    # Programs refuse variables HERMESH_… that they do not know.
    expect(spec["enableServiceLinks"] is False, "it gets variables of Services")
    expect(("ServiceAccount", spec["serviceAccountName"]) in there, "its account is missing")
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in resource["spec"].get("volumeClaimTemplates", [])}
    for volume in spec["volumes"]:
        kinds = set(volume) - {"name"}
        expect(len(kinds) == 1, f"{volume['name']} is of several kinds: {kinds}")
        for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if field in volume:
                expect((kind, volume[field][key]) in there, f"{kind} {volume[field][key]} is missing")
    for container in spec.get("initContainers", []) + spec["containers"]:
        for mount in container.get("volumeMounts", []):
            expect(mount["name"] in volumes, f"{container['name']} mounts {mount['name']}, which is missing")
        expect(container["image"].rpartition("/")[2].count(":") == 1, f"{container['image']}: no tag")
        if "hermesh/" in container["image"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                expect(probe in container, f"{container['name']} has no {probe}")
        variables = environment(container, spec)
        configuration(container, variables)
        drain = float(variables.get("HERMESH_DRAIN_SECONDS", 20))
        if container["name"] == "service":
            grace = spec["terminationGracePeriodSeconds"]
            expect(grace >= drain + MARGIN_SECONDS, f"killed after {grace} s, but drains for {drain} s")


def environment(container, spec):
    """Its variables, with the values that a pod would see."""
    found = {}
    for variable in container.get("env", []):
        value = variable.get("value")
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            value = spec["serviceAccountName"]
        elif "resourceFieldRef" in source:
            value = container["resources"]["requests"]["cpu"]
        for name in found:
            value = value.replace(f"$({name})", found[name])
        expect("$(" not in value, f"{variable['name']} names what is not there before it")
        found[variable["name"]] = value
    return found


def configuration(container, variables):
    """Has the program itself look at its variables."""
    name = container["image"].rpartition("/")[2].partition(":")[0]
    program = PROGRAMS / f"hermesh-{name}"
    if name == "broker" or "hermesh/" not in container["image"]:
        return
    if not os.access(program, os.X_OK):
        print(f"left out: {program.name} is not built")
        return
    if "HERMESH_SIDECAR_POLICY" in variables:
        variables = variables | {"HERMESH_SIDECAR_POLICY": str(POLICY)}
    done = subprocess.run([program, "--check"], env=variables, capture_output=True, text=True)
    expect(done.returncode == 0, f"{program.name}: {done.stderr}")


def main(rendered, directory):
    resources = [resource for resource in yaml.safe_load_all(pathlib.Path(rendered).read_text()) if resource]
    there = {(it["kind"], it["metadata"]["name"]) for it in resources} | BY_HAND
    there |= {("Secret", it["spec"]["secretName"]) for it in resources if it["kind"] == "Certificate"}
    expect(len(there) >= len(resources), "two have the same name")
    failed = 0

    def look(kind, name, check):
        nonlocal failed
        try:
            check()
        except (AssertionError, KeyError, jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            failed += 1
            where = "/".join(map(str, getattr(error, "absolute_path", [])))
            print(f"{kind} {name}: {where} {getattr(error, 'message', error)!s:.2000}", file=sys.stderr)

    for resource in resources:
        look(resource["kind"], resource["metadata"]["name"], functools.partial(against_schema, resource))
    for name, resource, spec in pods(resources):
        look("pods of", name, functools.partial(pod, name, resource, spec, there))
    configuration = next(it for it in resources if it["kind"] == "ConfigMap" and it["metadata"]["name"] == "nats")
    directory = pathlib.Path(directory)
    directory.mkdir(exist_ok=True)
    for file, text in configuration["data"].items():
        (directory / file).write_text(text)
    print(f"{len(resources)} resources, {failed} wrong")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
