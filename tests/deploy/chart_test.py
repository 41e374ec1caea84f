"""The Helm chart: what it renders is valid, hardened, and holds no secret."""

import copy
import json
import os
import re
import subprocess
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm" / "alyx"
HELM = os.environ["HELM"]
KUBERNETES = ["1.27", "1.37"]
ROLES = ["control-plane", "function-worker", "gateway", "realtime-node"]
SECRET = ["secrets.existingSecret=the-secret"]
EXTERNAL = ["nats.enabled=false", "nats.address=nats.example.com:4222",
            "libsql.enabled=false", "libsql.url=libsql://db.example.com"]
VARIANTS = {
    "defaults": SECRET,
    "engines of others": SECRET + EXTERNAL,
    "everything on": SECRET + [
        "controlPlane.replicas=3", "gateway.ingress.enabled=true", "gateway.ingress.host=a.example.com",
        "gateway.ingress.className=nginx", "gateway.ingress.tlsSecret=tls", "gateway.service.annotations.a=b",
        "image.pullSecrets[0].name=pull", "defaults.nodeSelector.disk=ssd", "gateway.podAnnotations.a=b",
        "gateway.filesClaim=shared",
        "functionWorker.tolerations[0].key=functions", "realtimeNode.priorityClassName=high",
        "config.ALYX_LOGGING_LEVEL=debug", r"project.files.schema\.yaml=collections: {}",
        r"project.files.functions/a\.js=export default () => 1"],
    "as little as possible": SECRET + EXTERNAL + [
        "podDisruptionBudgets.enabled=false", "networkPolicy.enabled=false", "gateway.replicas=1"],
}


def helm(*args):
    return subprocess.run([HELM, *args], capture_output=True, text=True, cwd=REPOSITORY, check=False)


def settings(values):
    return [word for value in values for word in ("--set", value)]


def render(values, kubernetes=KUBERNETES[-1], name="rel"):
    done = helm("template", name, str(CHART), "--kube-version", kubernetes, *settings(values))
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def refusal(values):
    done = helm("template", "rel", str(CHART), "--kube-version", KUBERNETES[-1], *settings(values))
    return done.stderr if done.returncode != 0 else None


def find(documents, kind, name):
    return next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)


def workloads(documents):
    return {d["metadata"]["labels"]["app.kubernetes.io/component"]: d
            for d in documents if d["kind"] in ("Deployment", "StatefulSet")}


def container(workload):
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    return only


def environment(workload):
    return {variable["name"]: variable for variable in container(workload)["env"]}


class Chart(unittest.TestCase):
    def test_lint_finds_nothing(self):
        for variant, values in VARIANTS.items():
            with self.subTest(variant):
                done = helm("lint", "--strict", "--kube-version", KUBERNETES[-1], str(CHART), *settings(values))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_document_fits_the_schemas_of_kubernetes(self):
        for variant, values in VARIANTS.items():
            for version in KUBERNETES:
                for document in render(values, version):
                    with self.subTest(variant, version=version, kind=document["kind"]):
                        kubernetes_validate.validate(copy.deepcopy(document), version, strict=True)

    def test_there_is_a_workload_for_each_role(self):
        found = workloads(render(SECRET))
        self.assertEqual(sorted(found), sorted([*ROLES, "libsql", "nats"]))
        stateful = {component for component, workload in found.items() if workload["kind"] == "StatefulSet"}
        self.assertEqual(stateful, {"control-plane", "libsql"})
        for role in ROLES:
            self.assertEqual(container(found[role])["args"], [role])
        self.assertEqual({role for role in ROLES if "-slim" not in container(found[role])["image"]}, {"function-worker"})

    def test_selectors_and_services_find_their_pods_and_no_others(self):
        documents = render(VARIANTS["everything on"])
        pods = {component: workload["spec"]["template"]["metadata"]["labels"]
                for component, workload in workloads(documents).items()}
        def chosen(selector):
            return {component for component, labels in pods.items() if selector.items() <= labels.items()}
        for document in documents:
            component = document["metadata"]["labels"]["app.kubernetes.io/component"]
            spec = document.get("spec", {})
            selector = {
                "Deployment": lambda: spec["selector"]["matchLabels"],
                "StatefulSet": lambda: spec["selector"]["matchLabels"],
                "Service": lambda: spec["selector"],
                "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
                "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
            }.get(document["kind"])
            if selector:
                self.assertEqual(chosen(selector()), {component}, document["metadata"]["name"])
            if document["kind"] == "Service":
                ports = {port["name"] for port in container(workloads(documents)[component])["ports"]}
                self.assertLessEqual({port["targetPort"] for port in spec["ports"]}, ports)

    def test_every_container_is_hardened_limited_and_probed(self):
        for variant, values in VARIANTS.items():
            for component, workload in workloads(render(values)).items():
                with self.subTest(variant, component=component):
                    pod = workload["spec"]["template"]["spec"]
                    self.assertIs(pod["automountServiceAccountToken"], False)
                    self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
                    self.assertGreater(pod["securityContext"]["runAsUser"], 0)
                    self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                    self.assertEqual(container(workload)["securityContext"], {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    })
                    self.assertIn("memory", container(workload)["resources"]["limits"])
                    self.assertIn("readinessProbe", container(workload))
                    self.assertIn("livenessProbe", container(workload))

    def test_secrets_are_references(self):
        for variant, values in VARIANTS.items():
            documents = render(values)
            self.assertNotIn("Secret", {document["kind"] for document in documents}, variant)
            for component, workload in workloads(documents).items():
                for name, variable in environment(workload).items():
                    if re.search(r"TOKEN|KEY|PASSWORD|SECRET", name):
                        with self.subTest(variant, component=component, name=name):
                            self.assertEqual(variable["valueFrom"]["secretKeyRef"]["name"], "the-secret")

    def test_control_planes_alone_hold_the_operators_token(self):
        for role in ROLES:
            variable = environment(workloads(render(SECRET + ["secrets.adminTokenKey=operators"]))[role])
            token = variable.get("ALYX_ADMIN_TOKEN")
            if role == "control-plane":
                self.assertEqual(token["valueFrom"]["secretKeyRef"],
                                 {"name": "the-secret", "key": "operators", "optional": True})
            else:
                self.assertIsNone(token, role)

    def test_function_workers_are_told_neither_the_database_nor_nats(self):
        documents = render(SECRET)
        told = set(environment(workloads(documents)["function-worker"]))
        self.assertFalse({name for name in told if re.search(r"NATS|DATABASE|LIBSQL", name)})
        for engine in ("libsql", "nats"):
            policy = find(documents, "NetworkPolicy", f"rel-alyx-{engine}")
            (rule,) = policy["spec"]["ingress"]
            (source,) = rule["from"]
            (expression,) = source["podSelector"]["matchExpressions"]
            self.assertEqual(sorted(expression["values"]), ["control-plane", "gateway", "realtime-node"])

    def test_roles_find_each_other_and_the_engines(self):
        documents = render(VARIANTS["everything on"])
        services = {d["metadata"]["name"] for d in documents if d["kind"] == "Service"}
        variables = environment(workloads(documents)["gateway"])
        self.assertEqual(variables["ALYX_CLUSTER_CONTROL_PLANE"]["value"], ",".join(
            f"rel-alyx-control-plane-{i}.rel-alyx-control-plane:8190" for i in range(3)))
        self.assertEqual(variables["ALYX_CLUSTER_NATS"]["value"], "nats://$(NATS_TOKEN)@rel-alyx-nats:4222")
        self.assertEqual(variables["ALYX_DATABASE_TURSO_URL"]["value"], "http://rel-alyx-libsql:8080")
        self.assertLessEqual({"rel-alyx", "rel-alyx-control-plane", "rel-alyx-libsql", "rel-alyx-nats"}, services)
        # A variable is replaced only by one that stands before it.
        order = [variable["name"] for variable in container(workloads(documents)["gateway"])["env"]]
        self.assertLess(order.index("NATS_TOKEN"), order.index("ALYX_CLUSTER_NATS"))
        variables = environment(workloads(render(SECRET + EXTERNAL))["gateway"])
        self.assertEqual(variables["ALYX_CLUSTER_NATS"]["value"], "nats://$(NATS_TOKEN)@nats.example.com:4222")
        self.assertEqual(variables["ALYX_DATABASE_TURSO_URL"]["value"], "libsql://db.example.com")

    def test_the_projects_files_arrive_under_their_paths_and_a_change_restarts_the_roles(self):
        def with_schema(text):
            return render(SECRET + [rf"project.files.schema\.yaml={text}", r"project.files.functions/a\.js=a()"])
        documents = with_schema("collections: {}")
        data = find(documents, "ConfigMap", "rel-alyx-project")["data"]
        for role in ROLES:
            pod = workloads(documents)[role]["spec"]["template"]["spec"]
            (volume,) = [v for v in pod["volumes"] if v["name"] == "project"]
            files = {item["path"]: data[item["key"]] for item in volume["configMap"]["items"]}
            self.assertEqual(files, {"schema.yaml": "collections: {}", "functions/a.js": "a()"})
        def template(documents):
            return workloads(documents)["gateway"]["spec"]["template"]["metadata"]["annotations"]
        self.assertNotEqual(template(documents), template(with_schema("collections: {a: {}}")))

    def test_gateways_share_the_claim_of_files_and_nobody_else_has_it(self):
        for role, workload in workloads(render(VARIANTS["everything on"])).items():
            with self.subTest(role):
                mounts = [m["mountPath"] for m in container(workload)["volumeMounts"] if m["name"] == "files"]
                claims = [v["persistentVolumeClaim"]["claimName"]
                          for v in workload["spec"]["template"]["spec"]["volumes"] if v["name"] == "files"]
                expected = (["/data/files"], ["shared"]) if role == "gateway" else ([], [])
                self.assertEqual((mounts, claims), expected)

    def test_one_pod_of_a_role_at_a_time_may_be_evicted(self):
        documents = render(SECRET)
        budgets = {d["metadata"]["labels"]["app.kubernetes.io/component"]: d["spec"]["maxUnavailable"]
                   for d in documents if d["kind"] == "PodDisruptionBudget"}
        self.assertEqual(budgets, {"gateway": 1, "realtime-node": 1, "function-worker": 1})

    def test_what_is_missing_or_wrong_is_said(self):
        for values, words in [
            ([], "secrets.existingSecret is not set"),
            (SECRET + ["nats.enabled=false"], "nats.address is not set"),
            (SECRET + ["libsql.enabled=false"], "libsql.url is not set"),
            (SECRET + ["gateway.ingress.enabled=true"], "gateway.ingress.host is not set"),
            (SECRET + ["gateway.replica=3"], "replica"),
            (SECRET + ["gateway.replicas=0"], "replicas"),
            (SECRET + ["libsql.url=db.example.com"], "url"),
            (SECRET + ["config.ALYX_CLUSTER_TOKEN=plain"], "ALYX_CLUSTER_TOKEN"),
            (SECRET + ["config.ALYX_ADMIN_TOKEN=plain"], "ALYX_ADMIN_TOKEN"),
            (SECRET + ["cluster.name=a.b"], "name"),
        ]:
            with self.subTest(values):
                said = refusal(values)
                self.assertIsNotNone(said, "it was rendered")
                self.assertIn(words, said)

    def test_the_readme_names_every_value_and_no_other(self):
        def paths(schema, before=""):
            for name, value in schema["properties"].items():
                path = f"{before}{name}"
                if "properties" in value:
                    yield from paths(value, f"{path}.")
                else:
                    yield path
        schema = json.loads((CHART / "values.schema.json").read_text())
        # Explained together below the table.
        shared = {"podAnnotations", "nodeSelector", "tolerations", "affinity", "priorityClassName"}
        expected = {path for path in paths(schema) if path != "global"
                    and not (path.split(".")[-1] in shared and not path.startswith("defaults."))}
        documented = set(re.findall(r"^\| `([A-Za-z.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
        self.assertEqual(documented, expected)

    def test_image_names_are_the_same_as_in_the_compose_file(self):
        compose = (REPOSITORY / "deploy" / "docker-compose.yml").read_text()
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        for engine in ("nats", "libsql"):
            self.assertIn(f":-{values[engine]['image']}}}", compose)


if __name__ == "__main__":
    unittest.main()
