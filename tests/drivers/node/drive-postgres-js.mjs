// postgres.js through the gateway. Takes the usual PG* variables; see README.md for the others.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { OTHER_TENANT, SESSION, run, step } from './steps.mjs'

const postgres = createRequire(process.env.NODE_FOLDER + '/')('postgres')

const sql = postgres(process.env.URL, { max: 1, onnotice: (notice) => notices.push(notice.message) })
const notices = []

step('as the guide says', async () => {
  const sql = postgres(process.env.URL)
  const [{ count }] = await sql`SELECT count(*) FROM tag`
  assert.equal(count, '0')
  await sql.end()
})

step('parameters', async () => {
  const text = "Grüße, 'quotes' \\ and ☃"
  const megabyte = Buffer.alloc(1 << 20, 0xab)
  const [row] = await sql`SELECT ${2}::int + ${3}::int AS sum, ${text}::text AS text, ${megabyte}::bytea AS bytes, ${null}::text AS nil`
  assert.deepEqual({ ...row }, { sum: 5, text, bytes: megabyte, nil: null })
})

step('prepared', async () => {
  for (let number = 0; number < 20; number++) {
    assert.equal((await sql`SELECT ${number}::int * 2 AS x`)[0].x, number * 2)
    assert.equal((await sql`SELECT ${String(number)}::text || 'x' AS x`)[0].x, `${number}x`)
  }
})

step('unprepared', async () => {
  assert.equal((await sql.unsafe('SELECT $1::int AS x', [7]))[0].x, 7)
  assert.equal((await sql.unsafe('SELECT 7 AS x'))[0].x, 7)
})

// It sends what is waiting without waiting for the answers.
step('pipeline', async () => {
  const answers = await Promise.all(Array.from({ length: 200 }, (_, number) => sql`SELECT ${number}::int AS x`))
  assert.deepEqual(answers.map(([row]) => row.x), [...Array(200).keys()])
})

step('transactions', async () => {
  await sql.begin(async (own) => {
    await own`INSERT INTO tag (name) VALUES ('of-postgres-js')`
    await assert.rejects(own.savepoint((inner) => inner`SELECT 1 / 0`), { code: '22012' })
  })
  await assert.rejects(sql.begin(async (own) => [await own`DELETE FROM tag`, await own`SELECT 1 / 0`]), { code: '22012' })
  assert.equal((await sql`DELETE FROM tag WHERE name = 'of-postgres-js'`).count, 1)
})

step('an error has its SQLSTATE', async () => {
  await assert.rejects(sql`SELECT * FROM nowhere`, { code: '42P01' })
})

step('cursor', async () => {
  let seen = 0
  await sql`SELECT n FROM generate_series(1, 5000) n`.cursor(100, (rows) => void (seen += rows.length))
  assert.equal(seen, 5000)
})

// On a connection that is not used again: postgres.js 3.4 leaves it paused for ever when the last rows and the end of them reach it
// in one piece (porsager/postgres#1016), from any server.
step('copy out', async () => {
  const own = postgres({ max: 1 })
  let size = 0
  for await (const block of await own`COPY (SELECT repeat('x', 99) FROM generate_series(1, 20000)) TO STDOUT`.readable()) {
    size += block.length
  }
  assert.equal(size, 100 * 20000)
  await own.end({ timeout: 0 })
})

step('notices', async () => {
  notices.length = 0
  await sql`DO $$ BEGIN RAISE NOTICE 'hello'; END $$`.simple()
  assert.deepEqual(notices, ['hello'])
})

step('cancel', async () => {
  const sleeping = sql`SELECT pg_sleep(60)`
  setTimeout(() => sleeping.cancel(), 300)
  await assert.rejects(sleeping, { code: '57014' })
  assert.equal((await sql`SELECT 1 AS x`)[0].x, 1)
})

step(
  'listen and notify',
  async () => {
    let arrived
    const came = new Promise((resolve) => void (arrived = resolve))
    const { unlisten } = await sql.listen('of_postgres_js', arrived)
    await sql.notify('of_postgres_js', 'hello')
    assert.equal(await came, 'hello')
    await unlisten()
  },
  SESSION
)

step('pool', async () => {
  const pool = postgres({ max: 10 })
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, number) => pool.begin(async (own) => (await own`SELECT ${number}::int AS x`)[0].x))
  )
  assert.deepEqual(answers, [...Array(200).keys()])
  await pool.end()
})

step('a wrong password is refused', async () => {
  const wrong = postgres({ max: 1, password: 'wrong' })
  await assert.rejects(wrong`SELECT 1`, { code: '28P01' })
})

step(
  'switch',
  async () => {
    const tenant = async () => Object.values((await sql`SHOW guardian.tenant`)[0])[0]
    const seen = async () => (await sql`SELECT count(*)::int AS x FROM tag WHERE name = 'of-the-first'`)[0].x
    const own = await tenant()
    await sql`INSERT INTO tag (name) VALUES ('of-the-first')`
    for (const send of [(text) => sql.unsafe(text).simple(), (text) => sql.unsafe(text, [], { prepare: true }), sql.unsafe]) {
      await send(`SET guardian.tenant = '${OTHER_TENANT}'`)
      assert.equal(await tenant(), OTHER_TENANT)
      assert.equal(await seen(), 0)
      await send(`SET guardian.tenant = '${own}'`)
      assert.equal(await seen(), 1)
    }
    await assert.rejects(sql.begin((inner) => inner.unsafe(`SET guardian.tenant = '${OTHER_TENANT}'`)))
    assert.equal(await tenant(), own)
    assert.equal((await sql`DELETE FROM tag WHERE name = 'of-the-first'`).count, 1)
  },
  OTHER_TENANT !== undefined
)

await run('postgres.js')
