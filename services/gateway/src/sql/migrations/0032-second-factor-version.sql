-- Grows with each change of how somebody signs in besides the password: the second factor on or off, other recovery
-- codes. A sign-in that began under one version does not end under the next.
alter table gateway.users add column second_factor_version int not null default 0;

-- When somebody first became super_admin. The setting makes nobody super_admin twice: who was made less stays that.
alter table gateway.users add column super_admin_since timestamptz;
update gateway.users set super_admin_since = now() where 'super_admin' = any(roles);
