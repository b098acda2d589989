"""`make chaos`: real processes, real load, faults, and a verdict that nothing was lost or wrong.

How a scenario is written: a function in any module of chaos/scenarios/.

    @scenario(
        "flushall",                               # its name for --only
        title="FLUSHALL under load",              # what is done to the platform
        plain="293 of 1,200 lost",                # plain Celery's figures, in our own words
        seconds=30,                               # that it takes, verdict included; --list adds up
        limit=12,                                 # for jobs that it cuts short to start again
        layout=Layout(appendonly=True),           # else the usual one; one layout, one platform
    )
    def flush_all(stage: Stage) -> None:
        load = stage.load(rate=40, seconds=12)    # begins to be submitted, with keys and retries
        stage.wait(4)
        fault = stage.outage("FLUSHALL")          # tells the clock; fault.end() when it is over
        redis_of(stage).flushall()
        fault.end()
        load.join()
        stage.measure("until a new job ran", seconds, limit=5)   # figures of its own
        stage.check(is_so, "what is wrong where it is not")      # findings of its own

It acts in the main thread alone: a server ends with the thread that started it. `stage.platform`
has the keepers (`apis`, `workers`, `io_workers`, `dispatchers`: `kill`, `freeze`, `thaw`, `send`,
`pid`, `family`), which start again what ends, and the servers (`postgres`, `valkey`: `kill`,
`stop`, `start`, `pid`, `port`); `add_worker(…, queue="own")` adds one. `stage.random` is seeded;
`stage.submit(kind, ms=…, state="failed", cause="crashed", starts=3)` is one job and how it has to
end; `stage.await_start(entry)` waits for its handler's first line in the effects file.

After the function the runner waits for the loads, starts what is not there, sends again what was
never answered, waits until all is final, and judges (chaos/verdict.py). A handler that started
twice is wrong unless its attempt was cut short by a fault: `stage.kill(keeper)` and
`stage.kill_child(pid)` remember whom they killed, `stage.faults.add(words, pids)` is for signals
of your own, and `stage.excuse(words)` … `.end()` covers every attempt of its time: only for what
cuts workers off from PostgreSQL. `stage.outage(words)` excuses nothing.

A fault for the random mix is a function with `@mishap("name")`: when it returns, it is over.
"""
