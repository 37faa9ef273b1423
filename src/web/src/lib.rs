//! Every page of the dashboard, drawn on the server: complete without script, kept true by it.
//!
//! Mounted by `kubeflow`. Pages call the same operations as the API, so they cannot disagree.
//!
//! Invariant: what a user made (names, logs, artifacts) is text on our pages; what is active in it runs in a sandboxed frame of
//! its own or not at all.

mod assets;
mod layout;
mod live;
mod pages;
mod problem;
mod view;

use auth::routes::{Access, Routes};
use auth::sessions::Sessions;
use auth::tokens::Tokens;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Redirect, Response};
use foundation::tasks::Tasks;
use http::Method;
use pipelines::operations::Operations;

/// What pages need.
#[derive(Clone)]
pub struct Web {
    /// Runs and pipelines.
    pub operations: Operations,
    /// Signing in and out.
    pub sessions: Sessions,
    /// Signing in with a token.
    pub tokens: Tokens,
    /// Changes go on here when a browser leaves; streams end with it.
    pub tasks: Tasks,
    /// The name of the one user.
    pub user: &'static str,
    live: live::Hub,
    wrong_tokens: pages::sign_in::WrongTokens,
}

impl Web {
    /// The pages' state.
    pub fn new(operations: Operations, sessions: Sessions, tokens: Tokens, tasks: Tasks, user: &'static str) -> Self {
        Self {
            operations,
            sessions,
            tokens,
            tasks,
            user,
            live: live::Hub::default(),
            wrong_tokens: pages::sign_in::WrongTokens::default(),
        }
    }
}

/// All pages, their assets and their stream.
pub fn routes(web: Web) -> (Router, Vec<auth::routes::Route>) {
    use Access::{Checked, Public, SignedIn};
    let routes = Routes::new(to_sign_in)
        .route(Method::GET, "/", Public, pages::home)
        .route(Method::GET, "/signin", Public, pages::sign_in::show)
        .route(Method::POST, "/signin", Public, pages::sign_in::create)
        .route(Method::POST, "/signout", SignedIn, pages::sign_in::delete)
        .route(Method::POST, "/theme", SignedIn, pages::theme)
        .route(Method::GET, "/assets/{file}", Public, assets::get)
        .route(Method::GET, "/live", SignedIn, live::stream)
        .route(Method::POST, "/live/{stream}/topics", SignedIn, live::topics)
        .route(Method::GET, "/go/{kind}/{id}", SignedIn, pages::go)
        .route(Method::GET, "/ns/{ns}", SignedIn, pages::namespace)
        .route(Method::GET, "/ns/{ns}/runs", Checked, pages::runs::list)
        .route(Method::POST, "/ns/{ns}/samples/digits", Checked, pages::runs::digits)
        .route(Method::GET, "/ns/{ns}/runs/{id}", Checked, pages::run::show)
        .route(Method::POST, "/ns/{ns}/runs/{id}/{act}", Checked, pages::run::act)
        .route(Method::GET, "/ns/{ns}/runs/{id}/logs", Checked, pages::logs::show)
        .route(Method::GET, "/ns/{ns}/runs/{id}/logs/lines", Checked, pages::logs::lines)
        .route(Method::GET, "/ns/{ns}/runs/{id}/artifact", Checked, pages::artifacts::show)
        .route(Method::GET, "/ns/{ns}/runs/{id}/artifact/content", Checked, pages::artifacts::content);
    let table = routes.table().to_vec();
    (routes.into_router().with_state(web), table)
}

/// A page that nobody is signed in for leads to the sign-in and comes back; anything else is told so.
pub fn to_sign_in(request: &Request) -> Response {
    let reads = request.method() == Method::GET && !request.uri().path().starts_with("/live");
    let fragment = request.uri().query().is_some_and(|query| query.contains("_f="));
    if !reads || fragment {
        return (http::StatusCode::UNAUTHORIZED, "Sign in first.\n").into_response();
    }
    let wanted = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Redirect::to(&format!("/signin?next={}", layout::percent(wanted))).into_response()
}
