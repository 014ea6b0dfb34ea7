//! Runs a real Prometheus.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hermesh_mesh::nats_server::free_port;
use serde_json::Value;

use crate::common::text;
use crate::queries;
use crate::up::Mesh;

const WITHOUT: &str = "HERMESH_TEST_WITHOUT_PROMETHEUS";

/// A Prometheus process, killed on drop.
pub(crate) struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Starts Prometheus with the mesh's configuration, scraping every second. `None` if the environment disables it.
    pub(crate) fn start(mesh: &Path) -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some() {
            return None;
        }
        let file = mesh.join("prometheus.yml");
        let config = fs::read_to_string(&file).unwrap();
        assert!(!config.contains("insecure_skip_verify"));
        let interval = "scrape_interval: 5s";
        assert!(config.contains(interval), "{config}");
        fs::write(&file, config.replace(interval, "scrape_interval: 1s")).unwrap();
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let data = mesh.join("prometheus");
        let log = fs::File::create(mesh.join("logs/prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot run prometheus: {error}; install it (Debian: apt-get install \
                     prometheus), or set {WITHOUT} to do without"
                )
            });
        Some(Self { child, url: format!("http://{address}") })
    }

    fn get(&self, path: &str, query: Option<&str>) -> Option<Value> {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
        let mut request = ureq::Agent::from(agent).get(format!("{}{path}", self.url));
        if let Some(query) = query {
            request = request.query("query", query);
        }
        let answer = request.call().ok()?.into_body().read_to_string().ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// True if there are this many targets and all are up.
    pub(crate) fn all_up(&self, count: usize) -> bool {
        let Some(answer) = self.get("/api/v1/targets", None) else {
            return false;
        };
        let targets = answer["data"]["activeTargets"].as_array().unwrap();
        targets.len() == count && targets.iter().all(|target| target["health"] == "up")
    }

    /// The result of a query of one value.
    pub(crate) fn value(&self, query: &str) -> Option<f64> {
        self.numbers(query).unwrap().first().copied()
    }

    /// The finite numbers in the result of a query, or the error.
    fn numbers(&self, query: &str) -> Result<Vec<f64>, String> {
        let Some(answer) = self.get("/api/v1/query", Some(query)) else {
            return Ok(Vec::new());
        };
        if answer["status"] != "success" {
            return Err(answer.to_string());
        }
        let result = answer["data"]["result"].as_array().unwrap();
        let numbers = result.iter().map(|series| text(&series["value"][1]).parse::<f64>().unwrap());
        Ok(numbers.filter(|number| number.is_finite()).collect())
    }

    /// Every query of the dashboard is valid, and gives data if it must.
    pub(crate) fn all_of_the_dashboard(&self, mesh: &Mesh) {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/base/dashboards/hermesh.json");
        let queries = queries(&path);
        assert!(queries.len() > 20);
        for (title, query, may_be_empty) in queries {
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$__range", "1h")
                .replace("$workload", ".*")
                .replace("$model", ".*");
            assert!(!query.contains('$'), "{title}: an undefined variable: {query}");
            let holds = || {
                let numbers = self.numbers(&query).unwrap_or_else(|why| panic!("{title}: {why}"));
                may_be_empty || !numbers.is_empty()
            };
            mesh.until(&format!("{title}: {query} gives data"), holds);
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
