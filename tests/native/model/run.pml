/*
 * Commands in a sandbox with an interpreter: init, the copies that it makes one after the other (a standby, which becomes
 * the tenant), the keeper of each, and a host that sends commands, kills some of them, and ends the sandbox. Checked: a
 * command is answered once, by the copy that has read it, or the host learns that the sandbox has ended; no copy runs two
 * commands, and none runs unprepared; a command that was not asked to be killed is not, and one that was killed is not
 * reported as ended by itself; when EXITED comes, nothing of the command runs; the next copy finds no keeper of the one
 * before; when the sandbox has ended, no keeper is left; nobody waits for ever.
 *
 *   here             C
 *   copy             become_interpreter(), standby_main()                init/standby.c
 *   supervisor       sp_init_serve(), await_end(), follow(), report()    init/serve.c
 *   keeper           sp_keeper_start(), _take(), _kill(), _end()         init/keeper.c
 *   look             check_host() with read_records(), and check_before_exec()    init/serve.c
 *   host             a job: EXEC, after the ACK perhaps KILL, EXITED     host/execute/job.c
 *
 * init and the copy share the socket `control`. Out of the model: file calls, processes of popen and sessions, which init
 * serves without a copy, and the memory watch, which kills as KILL does. The runner defines one of the mutants below.
 */

#ifndef COMMANDS
#define COMMANDS 2
#endif
#define COPIES (COMMANDS + 1)

#define NONE 0
#define PREPARES 1
#define WAITS 2  /* for a request */
#define HAS_READ 3
#define TENANT 4 /* not_execed is 0 */
#define DEAD 5

mtype = { EXEC, KILL };

chan control = [3] of { mtype, byte }; /* from the host */
chan acks = [1] of { byte };
chan exits = [1] of { byte, bit };     /* the command, and whether it was killed */

byte state[COPIES];
bit prepared[COPIES], was_killed[COPIES];
byte command_of[COPIES];
bit keeper, left;        /* there is a keeper; a process that a tenant has left running */
byte id;                 /* shared by init and the copy: the number of the command */
bit told;                /* the host's signal is pending at init */
byte told_id;            /* its number: the kernel keeps the first one of two signals */
bit gone;                /* init has ended, and with it all that it has started */
bit asked[COMMANDS + 1]; /* to be killed */

#define LIVES(n) (state[n] >= PREPARES && state[n] <= TENANT)

inline end_sandbox() {
    atomic {
        gone = 1;
#ifndef MUTANT_KEEPER_OUTLIVES_INIT
        keeper = 0;
#endif
        left = 0
    }
}

inline kill_tenants(n) {
    atomic {
        if
        :: LIVES(n) -> state[n] = DEAD; was_killed[n] = 1
        :: else
        fi;
        left = 0
    }
}

proctype copy(byte n) {
    byte got;
    do
    :: gone || state[n] == DEAD -> break
    :: atomic { !gone && state[n] == PREPARES ->
        if
        :: prepared[n] = 1; keeper = 1; state[n] = WAITS
        :: prepared[n] = 1; state[n] = WAITS /* no keeper could be started */
        :: state[n] = DEAD                   /* it was killed, or could not be prepared */
        fi
    }
    :: atomic { !gone && state[n] == WAITS && nempty(control) ->
        if
        :: control ? EXEC, got ->
            assert(prepared[n] && command_of[n] == 0 && !left);
            command_of[n] = got;
            state[n] = HAS_READ
        :: control ? KILL, got /* of a command that has ended */
        fi
    }
#ifdef MUTANT_ACK_BEFORE_THE_NUMBER
    :: atomic { !gone && state[n] == HAS_READ && prepared[n] -> acks ! command_of[n]; prepared[n] = 0 }
    :: atomic { !gone && state[n] == HAS_READ && !prepared[n] -> id = command_of[n]; state[n] = TENANT }
#else
    :: atomic { !gone && state[n] == HAS_READ && id == 0 -> id = command_of[n] }
    :: atomic { !gone && state[n] == HAS_READ && id != 0 && prepared[n] -> acks ! command_of[n]; prepared[n] = 0 }
    :: atomic { !gone && state[n] == HAS_READ && !prepared[n] -> state[n] = TENANT }
#endif
    /* It ends by itself, or, the last one, runs until it is killed. */
    :: atomic { !gone && state[n] == TENANT && !left -> left = 1 }
    :: atomic { !gone && state[n] == TENANT && command_of[n] != COMMANDS -> state[n] = DEAD }
    od
}

/* The host's signal has arrived. */
inline look(n) {
    signal_id = told_id;
    told = 0;
    if
#ifndef MUTANT_READS_AT_ONCE
    :: id == 0 /* looks once more a moment later, and then waits for the next signal */
    :: id != 0 && state[n] == HAS_READ ->
#ifndef MUTANT_ANY_SIGNAL_KILLS
        if
        :: signal_id == id -> kill_tenants(n)
        :: else
        fi;
#else
        kill_tenants(n);
#endif
        atomic { /* comes back later */
            if
            :: !told -> told = 1; told_id = 0
            :: else
            fi
        }
    :: id != 0 && state[n] != HAS_READ ->
#else
    :: true ->
#endif
        do
        :: atomic { nempty(control) ->
            if
            :: control ? KILL, got ->
                if
                :: got == id -> kill_tenants(n)
                :: else
                fi
            :: control ? EXEC, got
            fi
        }
        :: empty(control) -> break
        od
    fi
}

proctype supervisor() {
    byte n, got, signal_id;
    do
    :: gone || n == COPIES -> break
    :: else ->
        atomic {
            assert(gone || (!keeper && !left));
            id = 0;
            state[n] = PREPARES;
            run copy(n)
        };
        do /* await_end() */
        :: gone -> break
        :: !gone && state[n] == DEAD -> break
        :: atomic { !gone && told && state[n] != DEAD && state[n] != PREPARES -> look(n) }
        od;
        if
        :: gone || id == 0 -> end_sandbox(); break
        :: else
        fi;
#ifndef MUTANT_LEFTOVERS_LATE
        left = 0;
#endif
        if
        :: gone
        :: exits ! id, was_killed[n]
        fi;
#ifdef MUTANT_LEFTOVERS_LATE
        left = 0;
#endif
#ifndef MUTANT_KEEPER_STAYS
        keeper = 0;
#endif
        n++
    od
}

proctype host() {
    byte sent, got;
    bit by_kill, acked;
    do
    :: sent == COMMANDS || gone -> break
    :: sent < COMMANDS && !gone ->
        acked = 0;
        sent++;
        control ! EXEC, sent;
        do
        :: acks ? got -> assert(got == sent && !acked); acked = 1
        :: atomic { !gone && acked && !asked[sent] ->
            asked[sent] = 1;
            control ! KILL, sent;
            if
            :: !told -> told = 1; told_id = sent
            :: else
            fi
        }
        :: atomic { empty(acks) && nempty(exits) -> exits ? got, by_kill }; /* one socket, in this order */
            assert(got == sent && (!by_kill || asked[sent]) && (by_kill || sent != COMMANDS));
            assert(!left);
            break
        :: gone && empty(exits) -> break /* SandboxLostError */
        od
    od;
    end_sandbox();
    assert(!keeper)
}

init {
    atomic {
        run supervisor();
        run host()
    }
}
