-- What other services may ask, at the time of use: who a user is and where mail goes.

create schema gateway_api;
create view gateway_api.users as
  select id as user_id, email, full_name, email_verified_at is not null as email_verified
  from gateway.users;

grant usage on schema gateway_api to gateway_reader;
grant select on gateway_api.users to gateway_reader;
