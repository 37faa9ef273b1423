//! Startup, readiness and liveness probes of a running attempt: one task each, which reports changes only.
//!
//! Started when a container runs, cancelled with its attempt. Pods share the host's network, so probes go to loopback.
//! HTTPS probes only look whether the port accepts a connection: a kubelet does not check the certificate either.

use super::Input;
use super::state::Event;
use crate::agent::Shared;
use crate::connection::Connection;
use crate::notices::Level;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// So much of an answer is looked at.
const ANSWER_BYTES_MAX: u64 = 4 << 10;
/// So much of a command's output stands in an Event.
const OUTPUT_BYTES_MAX: usize = 1 << 10;

/// The probes of one attempt of one container.
pub struct Probing {
    /// What every worker has.
    pub shared: Arc<Shared>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container.
    pub container: Container,
    /// Its index in the plan.
    pub index: usize,
    /// How Events name it.
    pub field: Option<String>,
    /// Its shim.
    pub connection: Connection,
    /// The worker.
    pub inputs: mpsc::Sender<Input>,
}

/// True if there is anything to watch.
pub fn has_any(container: &Container) -> bool {
    container.startup_probe.is_some() || container.readiness_probe.is_some() || container.liveness_probe.is_some()
}

impl Probing {
    /// Runs until dropped, or until a probe has given the container up.
    pub async fn run(self) {
        if let Some(probe) = &self.container.startup_probe {
            if !self.until(probe, "Startup").await {
                self.give_up("startup").await;
                return;
            }
            self.report(self.container.readiness_probe.is_none(), true).await;
        }
        tokio::join!(self.watch_readiness(), self.watch_liveness());
    }

    /// True once the probe succeeds, false once it has failed too often.
    async fn until(&self, probe: &Probe, kind: &str) -> bool {
        self.delay(probe).await;
        let mut failures = 0;
        loop {
            match self.ask(probe).await {
                Ok(()) => return true,
                Err(why) => {
                    failures += 1;
                    self.tell(kind, &why);
                    if failures >= probe.failure_threshold.unwrap_or(3) {
                        return false;
                    }
                }
            }
            self.pause(probe).await;
        }
    }

    async fn watch_liveness(&self) {
        let Some(probe) = &self.container.liveness_probe else { return };
        self.delay(probe).await;
        let mut failures = 0;
        loop {
            match self.ask(probe).await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    self.tell("Liveness", &why);
                    if failures >= probe.failure_threshold.unwrap_or(3) {
                        self.give_up("liveness").await;
                        return;
                    }
                }
            }
            self.pause(probe).await;
        }
    }

    async fn watch_readiness(&self) {
        let Some(probe) = &self.container.readiness_probe else { return };
        self.delay(probe).await;
        let (mut ready, mut in_a_row) = (false, 0);
        loop {
            let answer = self.ask(probe).await;
            if let Err(why) = &answer {
                self.tell("Readiness", why);
            }
            in_a_row = if answer.is_ok() == ready { 0 } else { in_a_row + 1 };
            let threshold =
                if ready { probe.failure_threshold.unwrap_or(3) } else { probe.success_threshold.unwrap_or(1) };
            if in_a_row >= threshold {
                (ready, in_a_row) = (!ready, 0);
                self.report(ready, true).await;
            }
            self.pause(probe).await;
        }
    }

    async fn report(&self, ready: bool, started: bool) {
        let event = Event::Probed { container: self.index, ready, started };
        let _ = self.inputs.send(Input::Event(event)).await;
    }

    async fn give_up(&self, kind: &str) {
        let message = format!("Container {} failed {kind} probe, will be restarted", self.container.name);
        self.shared.notices.say(&self.pod, self.field.clone(), Level::Normal, "Killing", message);
        let _ = self.inputs.send(Input::Event(Event::Unhealthy { container: self.index })).await;
    }

    fn tell(&self, kind: &str, why: &str) {
        let message = format!("{kind} probe failed: {why}");
        self.shared.notices.say(&self.pod, self.field.clone(), Level::Warning, "Unhealthy", message);
    }

    async fn delay(&self, probe: &Probe) {
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    }

    async fn pause(&self, probe: &Probe) {
        tokio::time::sleep(seconds(probe.period_seconds, 10).max(Duration::from_secs(1))).await;
    }

    /// One try.
    async fn ask(&self, probe: &Probe) -> Result<(), String> {
        let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        if let Some(exec) = &probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            return match self.connection.exec(&self.container.name, command, limit).await {
                Ok((0, _)) => Ok(()),
                Ok((-1, _)) => Err(format!("command timed out after {limit:?}")),
                Ok((_, output)) => Err(output.chars().take(OUTPUT_BYTES_MAX).collect()),
                Err(error) => Err(error.to_string()),
            };
        }
        let try_network = async {
            if let Some(http) = &probe.http_get {
                let host = http.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
                let address = (host, self.port(&http.port)?);
                if http.scheme.as_deref() == Some("HTTPS") {
                    return connect(&address).await.map(drop);
                }
                let mut head = format!("GET {} HTTP/1.0\r\n", http.path.as_deref().unwrap_or("/"));
                let named = http.http_headers.iter().flatten();
                named.for_each(|header| head.push_str(&format!("{}: {}\r\n", header.name, header.value)));
                head.push_str("User-Agent: kube-probe/1.37\r\nAccept: */*\r\n\r\n");
                return get(&address, &head).await;
            }
            if let Some(tcp) = &probe.tcp_socket {
                let host = tcp.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
                return connect(&(host, self.port(&tcp.port)?)).await.map(drop);
            }
            Err("probes of this kind are not supported on this node".to_owned())
        };
        tokio::time::timeout(limit, try_network).await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let named =
                    ports.filter(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port).next();
                named.or_else(|| name.parse().ok())
            }
        };
        number
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| format!("port {port:?} is not a port of the container"))
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

async fn connect((host, port): &(String, u16)) -> Result<TcpStream, String> {
    TcpStream::connect((host.as_str(), *port)).await.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

/// Any status from 200 to 399 is a yes.
async fn get(address: &(String, u16), head: &str) -> Result<(), String> {
    let mut stream = connect(address).await?;
    stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&answer);
    let code = text.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("HTTP probe failed with statuscode: {code}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}
