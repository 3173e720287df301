-- Who verifies an address shows that they made the account, or sets a password of their own in doing so.
alter table gateway.users
  -- The network that signed up, as a keyed hash, until the address is verified. Null: the sign-up is of the version before.
  add column signup_network_hash text,
  -- When the owner of the address showed that the password is theirs, or that there is none: in the verification, by a
  -- reset through the mail, by a provider. BOOTSTRAP_ADMIN_EMAIL asks for it. Null of those who verified before.
  add column owner_proved_at timestamptz;
