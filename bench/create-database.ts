import postgres from 'postgres'

/** A database of its own for one measurement; `drop` removes it. */
export const createDatabase = async (
  superuserUrl: string,
  name: string,
): Promise<{ url: string; drop: () => Promise<void> }> => {
  const run = async (statement: string) => {
    const sql = postgres(superuserUrl, { max: 1, onnotice: () => {} })
    try {
      await sql.unsafe(statement)
    } finally {
      await sql.end()
    }
  }
  await run(`create database ${name}`)
  return {
    url: superuserUrl.replace(/\/postgres$/, `/${name}`),
    drop: () => run(`drop database ${name} with (force)`),
  }
}
