// node-postgres through the gateway. Takes the usual PG* variables; see README.md for the others.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { OTHER_TENANT, SESSION, run, step } from './steps.mjs'

const pg = createRequire(process.env.NODE_FOLDER + '/')('pg')

// As docs/guide/sql-gateway.md says.
const client = new pg.Client(process.env.URL)
await client.connect()

const one = async (text, values) => Object.values((await client.query({ text, values })).rows[0])[0]

step('parameters', async () => {
  assert.equal(await one('SELECT $1::int + $2::int', [2, 3]), 5)
  assert.equal(await one('SELECT $1::text', ["Grüße, 'quotes' \\ and ☃"]), "Grüße, 'quotes' \\ and ☃")
  const megabyte = Buffer.alloc(1 << 20, 0xab)
  assert.deepEqual(await one('SELECT $1::bytea', [megabyte]), megabyte)
  assert.deepEqual(await one('SELECT $1::int[]', [[1, null, 3]]), [1, null, 3])
  assert.equal(await one('SELECT $1::text', [null]), null)
})

step('prepared', async () => {
  for (let number = 0; number < 20; number++) {
    const double = await client.query({ name: 'double', text: 'SELECT $1::int * 2 AS x', values: [number] })
    assert.equal(double.rows[0].x, number * 2)
    const append = await client.query({ name: 'append', text: "SELECT $1::text || 'x' AS x", values: [number] })
    assert.equal(append.rows[0].x, `${number}x`)
  }
})

step('queue', async () => {
  const answers = await Promise.all(Array.from({ length: 200 }, (_, number) => one('SELECT $1::int', [number])))
  assert.deepEqual(answers, [...Array(200).keys()])
})

step('several statements in one query', async () => {
  const results = await client.query('SELECT 1 AS a; SELECT 2 AS b')
  assert.deepEqual(results.map((result) => result.rows), [[{ a: 1 }], [{ b: 2 }]])
})

step('transactions', async () => {
  await client.query('BEGIN')
  await client.query("INSERT INTO tag (name) VALUES ('of-pg')")
  await client.query('SAVEPOINT s')
  await assert.rejects(client.query('SELECT 1 / 0'), { code: '22012' })
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' })
  await client.query('ROLLBACK TO s')
  await client.query('COMMIT')
  assert.equal((await client.query("DELETE FROM tag WHERE name = 'of-pg'")).rowCount, 1)
})

step('an error has its SQLSTATE', async () => {
  await assert.rejects(client.query('SELECT * FROM nowhere'), { code: '42P01', position: '15' })
})

step('many rows', async () => {
  const { rows } = await client.query("SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n")
  assert.equal(rows.length, 20000)
})

step('notices', async () => {
  const seen = new Promise((resolve) => client.once('notice', resolve))
  await client.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
  assert.equal((await seen).message, 'hello')
})

step('cancel', async () => {
  const sleeping = client.query('SELECT pg_sleep(60)')
  // node-postgres has no call of its own that cancels on another connection and waits.
  const { processID, secretKey } = client
  setTimeout(() => {
    const canceller = new pg.Connection()
    canceller.connect(client.port, client.host)
    canceller.once('connect', () => canceller.cancel(processID, secretKey))
  }, 300)
  await assert.rejects(sleeping, { code: '57014' })
  assert.equal(await one('SELECT 1'), 1)
})

step(
  'listen and notify',
  async () => {
    const came = new Promise((resolve) => client.once('notification', resolve))
    await client.query('LISTEN of_pg')
    const other = new pg.Client()
    await other.connect()
    await other.query("SELECT pg_notify('of_pg', 'hello')")
    await other.end()
    assert.equal((await came).payload, 'hello')
    await client.query('UNLISTEN *')
  },
  SESSION
)

step('pool', async () => {
  const pool = new pg.Pool({ max: 10 })
  const answers = await Promise.all(
    Array.from({ length: 200 }, async (_, number) => (await pool.query('SELECT $1::int AS x', [number])).rows[0].x)
  )
  assert.deepEqual(answers, [...Array(200).keys()])
  await pool.end()
})

step('a wrong password is refused', async () => {
  await assert.rejects(new pg.Client({ password: 'wrong' }).connect(), { code: '28P01' })
})

step(
  'switch',
  async () => {
    const own = await one('SHOW guardian.tenant')
    await client.query("INSERT INTO tag (name) VALUES ('of-the-first')")
    const seen = () => one("SELECT count(*)::int FROM tag WHERE name = 'of-the-first'")
    // Text alone is a simple query; with values it is Parse, Bind, Describe, Execute and Sync; with a name, too.
    for (const more of [{}, { values: [] , queryMode: 'extended' }, { name: 'switching' }]) {
      const to = (tenant) => client.query({ text: `SET guardian.tenant = '${tenant}'`, ...more, ...(more.name && { name: tenant }) })
      await to(OTHER_TENANT)
      assert.equal(await one('SHOW guardian.tenant'), OTHER_TENANT)
      assert.equal(await seen(), 0)
      await to(own)
      assert.equal(await seen(), 1)
    }
    await client.query('BEGIN')
    await assert.rejects(client.query(`SET guardian.tenant = '${OTHER_TENANT}'`))
    await client.query('ROLLBACK')
    assert.equal(await one('SHOW guardian.tenant'), own)
    assert.equal((await client.query("DELETE FROM tag WHERE name = 'of-the-first'")).rowCount, 1)
  },
  OTHER_TENANT !== undefined
)

await run('node-postgres')
