//! No route without saying who may use it.
//!
//! axum's `Router` cannot list its routes, so every capability hands out this wrapper: it guards each method of each path
//! and keeps a table from which the route census (a test) reads what is open.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::Method;

use crate::caller::Caller;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without credentials.
    Public,
    /// Everybody who signed in; the answer depends on nothing else.
    SignedIn,
    /// Everybody who signed in; the operation behind it asks the authorizer.
    Checked,
}

/// One line of the census.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with axum's `{captures}`.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
}

/// What to answer to a request without a caller: an API says 401 in its own shape, a page redirects to the sign-in.
pub type Unauthenticated = fn(&Request) -> Response;

/// Routes with their guards.
pub struct Routes<S> {
    router: Router<S>,
    table: Vec<Route>,
    refuse: Unauthenticated,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet; `refuse` answers requests without a caller.
    pub fn new(refuse: Unauthenticated) -> Self {
        Self { router: Router::new(), table: Vec::new(), refuse }
    }

    /// Adds a route. A GET answers HEAD as well.
    #[must_use]
    pub fn route<T, H>(mut self, method: Method, path: &'static str, access: Access, handler: H) -> Self
    where
        T: 'static,
        H: Handler<T, S>,
    {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        let mut service = on(filter, handler);
        if access != Access::Public {
            let refuse = self.refuse;
            service = service.layer(from_fn(move |request: Request, next: Next| async move {
                match request.extensions().get::<Caller>() {
                    Some(_) => next.run(request).await,
                    None => refuse(&request),
                }
            }));
        }
        self.router = self.router.route(path, service);
        self.table.push(Route { method, path, access });
        self
    }

    /// The census.
    pub fn table(&self) -> &[Route] {
        &self.table
    }

    /// The router, ready to be mounted.
    pub fn into_router(self) -> Router<S> {
        self.router
    }
}
