-- A person's key is wrapped anew where the key-encryption key changes; whose it is never changes.
grant update (wrapped_key, kek_id) on gateway.person_keys to gateway;
