//! Every page of the dashboard, drawn on the server.
