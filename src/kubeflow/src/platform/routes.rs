//! Which routes are on which port, and the listeners that open once everything else runs.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use auth::caller::{Caller, Means};
use auth::identity::Identity;
use auth::routes::{Access, Routes};
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use foundation::tasks::Tasks;
use gateway::{filters, listener, measure};
use http::Method;
use pipelines::api::About as ApiAbout;
use telemetry::requests::Requests;
use web::Web;

use super::embedded::Embedded;
use super::health::{self, Looked};
use super::{Facade, USER};
use crate::{control, instance};

/// Opens both ports and the commands' socket.
///
/// # Errors
/// When the socket cannot be made.
pub fn open(
    embedded: &Embedded,
    facade: &Arc<Facade>,
    tasks: &Tasks,
    listener: TcpListener,
    kube_listener: TcpListener,
) -> Result<()> {
    let about = ApiAbout { version: env!("CARGO_PKG_VERSION"), commit: "" };
    let (api, _) = pipelines::api::routes(embedded.operations.clone(), tasks.child("api"), about);
    let looked = Looked { health: embedded.health.clone(), metrics: embedded.metrics.clone() };
    let own = Routes::new(pipelines::api::unauthenticated)
        .route(Method::GET, "/healthz", Access::Public, health::ready)
        .route(Method::GET, "/livez", Access::Public, health::ready)
        .route(Method::GET, "/readyz", Access::Public, health::ready)
        .route(Method::GET, "/version", Access::Public, health::version)
        .route(Method::GET, "/metrics", Access::SignedIn, health::metrics)
        .into_router()
        .with_state(looked);
    let pages = Web::new(
        embedded.operations.clone(),
        embedded.sessions.clone(),
        embedded.tokens.clone(),
        tasks.child("pages"),
        USER,
    );
    let (pages, _) = web::routes(pages);
    let routes = api.clone().merge(own).merge(pages).fallback(otherwise);
    let front = filters::chain(routes.clone(), embedded.authenticator.clone(), refuse);
    let user = Caller::new(Identity::admin(USER), Means::Local, auth::authorizer::Authorizer::default());
    let commands = filters::trusted(routes.merge(control::routes(facade.clone())), user);
    // A kfp client without a host asks the Kubernetes port for the pipelines API.
    let kube_pipelines = filters::chain(api.fallback(pipelines::api::fallback), embedded.authenticator.clone(), refuse);
    let kube = Router::new()
        .nest_service("/apis/v2beta1", prefixed(kube_pipelines))
        .fallback_service(embedded.server.router());
    let requests = Requests::register(&embedded.metrics);
    let front = measure::layer(front, requests.clone(), "front", measure::matched);
    let kube = measure::layer(kube, requests, "kubernetes", kube_route);
    serve(tasks, "front door", listener, None, front)?;
    serve(tasks, "kubernetes port", kube_listener, Some(embedded.authority.server.clone()), kube)?;
    let path = instance::control_socket(&facade.about.data_dir);
    let _ = std::fs::remove_file(&path);
    let socket = tokio::net::UnixListener::bind(&path)
        .with_context(|| format!("open {} (the path of a socket is limited to 107 characters)", path.display()))?;
    // The third lock, behind the 0700 folder and the peer's uid.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("make {} yours only", path.display()))?;
    let own_tasks = tasks.child("commands");
    let accept = own_tasks.clone();
    own_tasks.spawn("commands", async move {
        let own_user = |uid: u32| uid == rustix::process::getuid().as_raw() || uid == 0;
        listener::serve_unix(socket, own_user, commands, accept).await;
    });
    Ok(())
}

/// The Kubernetes port's requests by what they are about.
fn kube_route(request: &Request) -> String {
    const RESOURCES: [&str; 9] = [
        "bindings",
        "configmaps",
        "events",
        "namespaces",
        "nodes",
        "pods",
        "secrets",
        "serviceaccounts",
        "persistentvolumeclaims",
    ];
    let path = request.uri().path();
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("api"), Some("v1")) => {
            let rest: Vec<&str> = parts.filter(|part| *part != "watch").collect();
            let named = match rest.as_slice() {
                ["namespaces", _, resource, ..] => *resource,
                [resource, ..] => *resource,
                [] => return "/api".to_owned(),
            };
            let known = RESOURCES.iter().find(|known| **known == named);
            format!("/api/v1/{}", known.unwrap_or(&"other"))
        }
        (Some("apis"), Some("v2beta1")) => "/apis/v2beta1".to_owned(),
        (Some(first @ ("api" | "apis" | "openapi" | "healthz" | "livez" | "readyz" | "version" | "metrics")), _) => {
            format!("/{first}")
        }
        _ => "unmatched".to_owned(),
    }
}

/// `nest_service` takes the prefix off; the API's routes have it.
fn prefixed(router: Router) -> Router {
    Router::new().fallback(move |mut request: Request| {
        let router = router.clone();
        async move {
            let rest = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            if let Ok(uri) = format!("/apis/v2beta1{rest}").parse() {
                *request.uri_mut() = uri;
            }
            tower::ServiceExt::oneshot(router, request).await
        }
    })
}

fn serve(
    tasks: &Tasks,
    name: &'static str,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("take over a port")?;
    let own = tasks.child(name);
    let accept = own.clone();
    own.spawn(name, async move { listener::serve(listener, tls, router, accept).await });
    Ok(())
}

/// Nothing of ours: said in the shape of the API, to those who may know.
async fn otherwise(request: Request) -> Response {
    if request.extensions().get::<Caller>().is_none() {
        return refuse(&request);
    }
    pipelines::api::fallback(request).await
}

fn refuse(request: &Request) -> Response {
    pipelines::api::unauthenticated(request)
}
