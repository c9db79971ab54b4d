//! The endpoints about the API gateway: keys, roles, host names, routes.

use guardian_model::{
    ApiKey, ApiKeyId, GroupName, HostName, RoleName, RouteName, Subject,
    access_api::{
        AccessState, CreateApiKey, Domain, ExplainQuery, HttpDeclaration, IdentityKeyState, NewApiKey, PutAccessGroup,
        PutAccessRole, PutAccessUser, PutRoute, RotateApiKey, RotateIdentityKey, VersionQuery,
    },
    http::HttpRole,
    rbac::AccessExplanation,
};
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    /// A tenant's API keys, without their secrets.
    pub async fn api_keys(&self, tenant: &str) -> Result<Vec<ApiKey>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants", tenant, "api-keys"])?).await
    }

    /// Makes an API key; its secret is shown this once.
    pub async fn create_api_key(&self, tenant: &str, body: &CreateApiKey) -> Result<NewApiKey, ClientError> {
        self.send(self.request(Method::POST, &["v1", "tenants", tenant, "api-keys"])?.json(body)).await
    }

    /// Gives an API key another secret, shown this once.
    pub async fn rotate_api_key(&self, tenant: &str, key: ApiKeyId, body: &RotateApiKey) -> Result<NewApiKey, ClientError> {
        let key = key.to_string();
        self.send(self.request(Method::POST, &["v1", "tenants", tenant, "api-keys", &key, "rotate"])?.json(body)).await
    }

    /// Revokes an API key.
    pub async fn revoke_api_key(&self, tenant: &str, key: ApiKeyId) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "tenants", tenant, "api-keys", &key.to_string()])?).await
    }

    /// Who may do what in a tenant.
    pub async fn access(&self, tenant: &str) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants", tenant, "access"])?).await
    }

    /// Why somebody may do something in a tenant, or may not.
    pub async fn explain_access(&self, tenant: &str, query: &ExplainQuery) -> Result<AccessExplanation, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants", tenant, "access", "explain"])?.query(query)).await
    }

    /// Creates or replaces a role of a tenant's own.
    pub async fn put_access_role(
        &self,
        tenant: &str,
        role: &RoleName,
        body: &PutAccessRole,
    ) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "tenants", tenant, "roles", role.as_str()])?.json(body)).await
    }

    /// Deletes a role of a tenant's own.
    pub async fn delete_access_role(&self, tenant: &str, role: &RoleName) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "tenants", tenant, "roles", role.as_str()])?).await
    }

    /// Creates or replaces a group.
    pub async fn put_access_group(
        &self,
        tenant: &str,
        group: &GroupName,
        body: &PutAccessGroup,
    ) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "tenants", tenant, "groups", group.as_str()])?.json(body)).await
    }

    /// Deletes a group.
    pub async fn delete_access_group(&self, tenant: &str, group: &GroupName) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "tenants", tenant, "groups", group.as_str()])?).await
    }

    /// Says which roles and groups a user has.
    pub async fn put_access_user(
        &self,
        tenant: &str,
        subject: &Subject,
        body: &PutAccessUser,
    ) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "tenants", tenant, "users", subject.as_str()])?.json(body)).await
    }

    /// Takes every role and group from a user.
    pub async fn delete_access_user(&self, tenant: &str, subject: &Subject) -> Result<AccessState, ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "tenants", tenant, "users", subject.as_str()])?).await
    }

    /// A tenant's own host names.
    pub async fn domains(&self, tenant: &str) -> Result<Vec<Domain>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants", tenant, "domains"])?).await
    }

    /// Gives a tenant a host name.
    pub async fn add_domain(&self, tenant: &str, host: &HostName) -> Result<Domain, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "tenants", tenant, "domains", host.as_str()])?).await
    }

    /// Takes a host name away from a tenant.
    pub async fn remove_domain(&self, tenant: &str, host: &HostName) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "tenants", tenant, "domains", host.as_str()])?).await
    }

    /// The routes of the API gateway, and the roles that every tenant has.
    pub async fn http_declaration(&self) -> Result<HttpDeclaration, ClientError> {
        self.send(self.request(Method::GET, &["v1", "http"])?).await
    }

    /// Creates or replaces a route.
    pub async fn put_route(
        &self,
        route: &RouteName,
        query: &VersionQuery,
        body: &PutRoute,
    ) -> Result<HttpDeclaration, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "http", "routes", route.as_str()])?.query(query).json(body)).await
    }

    /// Deletes a route that was declared over the API.
    pub async fn delete_route(&self, route: &RouteName, query: &VersionQuery) -> Result<HttpDeclaration, ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "http", "routes", route.as_str()])?.query(query)).await
    }

    /// Creates or replaces a role that every tenant has.
    pub async fn put_role(
        &self,
        role: &RoleName,
        query: &VersionQuery,
        body: &HttpRole,
    ) -> Result<HttpDeclaration, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "http", "roles", role.as_str()])?.query(query).json(body)).await
    }

    /// Deletes a role that was declared over the API.
    pub async fn delete_role(&self, role: &RoleName, query: &VersionQuery) -> Result<HttpDeclaration, ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "http", "roles", role.as_str()])?.query(query)).await
    }

    /// Where each key that signs identities stands.
    pub async fn identity_keys(&self) -> Result<Vec<IdentityKeyState>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "identity-keys"])?).await
    }

    /// Lets another key sign identities.
    pub async fn rotate_identity_key(&self, body: &RotateIdentityKey) -> Result<Vec<IdentityKeyState>, ClientError> {
        self.send(self.request(Method::POST, &["v1", "identity-keys", "rotation"])?.json(body)).await
    }
}
