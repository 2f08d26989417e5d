/*
 * The references of a session: a job and calls that share it (processes of popen, file calls) beside a release and the
 * janitor. Each atomic access of the C is one step here, and what a lock guards takes the lock. Checked: nobody uses a
 * session that was freed, it is freed once, its owner has its sandbox killed at once, though others still use the
 * session, a sandbox that something may have run in is not given back as idle, nobody waits for ever.
 *
 *   here              C
 *   share, unref      sp_lease_share() with sp_slot_share(), sp_session_unref()   host/pool/lease.c, host/sandbox/session.c
 *   end_session       sp_session_end()                                            host/sandbox/session.c
 *   job               sp_job_claim(), sp_job_leave() with sp_claim_withdraw()     host/execute/claim.c, host/pool/orphans.c
 *   releaser          sp_release(), release_used()                                host/pool/lease.c
 *   janitor           sp_orphans_kill(), the list of sandboxes to end             host/pool/orphans.c, host/pool/janitor.c
 *
 * There is one lease. Two releasers are its holder and the garbage collector, or close(). Out of the model: what the
 * janitor makes in place of the sandbox (pool.pml), and the numbers of descriptors.
 *
 * The runner defines one of the mutants below; each has to fail.
 */

/* The slot's word: {used:1, busy:1, shared:1, state:2} */
#define IDLE 0
#define LEASED 1
#define RECYCLING 2
#define STATE(w) ((w) & 3)
#define SHARED 4
#define BUSY 8
#define USED 16
#define FLAGS(w) ((w) & (SHARED | BUSY | USED))

byte word = LEASED;
bit locked;
bit in_slot = 1; /* slot->session */
byte refs = 1;   /* of the session */
bit freed, killed;
bit to_end;      /* it is on the list of the janitor */
bit orphan;      /* claim->orphan: the session is the claim's */
bit queued_for_kill, being_killed;
bit ran;         /* something of the tenant may have run; the model knows, the C has the flags */
byte running;    /* all but the janitor */

inline lock() { atomic { !locked -> locked = 1 } }
inline unlock() { locked = 0 }

inline use() { assert(!freed) }

inline kill_sandbox() {
    use();
    killed = 1
}

/* The last user kills the sandbox, closes the descriptors and frees the session. */
inline unref() {
    d_step {
        assert(refs != 0);
        refs--;
        last = (refs == 0)
    };
    if
    :: last ->
        kill_sandbox();
        d_step {
            assert(!freed);
            freed = 1
        }
    :: else
    fi
}

inline end_session() {
    if
    :: refs != 1 -> kill_sandbox()
    :: refs == 1
    fi;
#ifdef MUTANT_OWNER_FREES
    d_step {
        assert(!freed);
        freed = 1
    }
#else
    unref()
#endif
}

proctype sharer() {
    byte seen;
    bit last, mine;
    lock();
    do
    :: true ->
        seen = word;
        if
        :: STATE(seen) != LEASED || !in_slot -> break
        :: else ->
#ifdef MUTANT_SHARES_WITHOUT_CAS
            word = word | SHARED;
            mine = 1;
            break
#else
            d_step {
                if
                :: word == seen ->
                    word = word | SHARED;
                    mine = 1
                :: else
                fi
            };
            if
            :: mine -> break
            :: else
            fi
#endif
        fi
    od;
    if
    :: mine ->
#ifndef MUTANT_TAKES_NO_REFERENCE
        refs++;
#endif
        unlock();
        use(); /* the request is sent: the tenant's process may run */
        ran = 1;
        use();
#ifndef MUTANT_TAKES_NO_REFERENCE
        unref()
#endif
    :: else -> unlock()
    fi;
    running--
}

/* `lost`: its sandbox has died, or the job has killed it; 0: the command ends by itself, or when the sandbox dies. */
proctype job(bit lost) {
    bit last, own, mine;
    byte seen;
    lock();
    do
    :: true ->
        seen = word;
        if
        :: STATE(seen) != LEASED || !in_slot || (seen & BUSY) -> break
        :: else ->
            d_step {
                if
                :: word == seen ->
                    word = word | BUSY | USED;
                    mine = 1
                :: else
                fi
            };
            if
            :: mine -> break
            :: else
            fi
        fi
    od;
    unlock();
    if
    :: mine ->
        use();
        ran = 1;
        use();
        lock();
        do
        :: !queued_for_kill && !being_killed -> break
        :: queued_for_kill -> queued_for_kill = 0
#ifdef MUTANT_LEAVES_AMID_THE_KILL
        :: being_killed && !queued_for_kill -> break
#else
        :: being_killed && !queued_for_kill -> atomic { /* pthread_cond_wait() */
            locked = 0;
            (!being_killed && !locked) -> locked = 1
        }
#endif
        od;
        if
        :: orphan -> own = 1
        :: !orphan && lost ->
            own = 1;
            in_slot = 0;
            word = word & ~BUSY
        :: else -> word = word & ~BUSY
        fi;
        unlock();
        if
        :: own -> end_session()
        :: else
        fi
    :: else
    fi;
    running--
}

proctype releaser() {
    byte seen;
    bit done;
    do
    :: done -> break
    :: else ->
        seen = word;
        if
        :: STATE(seen) != LEASED -> break
        :: STATE(seen) == LEASED && FLAGS(seen) != 0 ->
            lock();
            if
            :: STATE(word) == LEASED ->
                if
#ifndef MUTANT_ENDS_BEFORE_THE_JOB
                :: word & BUSY ->
                    orphan = 1;
                    queued_for_kill = 1
                :: !(word & BUSY) && in_slot -> to_end = 1
#else
                :: in_slot -> to_end = 1
#endif
                :: else /* the job has ended it */
                fi;
                in_slot = 0;
                word = RECYCLING
            :: else
            fi;
            unlock();
            break
        :: else ->
            d_step {
                if
                :: word == seen ->
                    word = IDLE;
                    done = 1
                :: else
                fi
            }
        fi
    od;
    running--
}

proctype janitor() {
    bit last;
end:
    do
    :: queued_for_kill ->
        lock();
        if
        :: queued_for_kill ->
            queued_for_kill = 0;
            being_killed = 1;
            unlock();
            kill_sandbox();
            lock();
            being_killed = 0
        :: else
        fi;
        unlock()
    :: to_end ->
        to_end = 0;
        end_session()
    :: running == 0 && !queued_for_kill && !to_end -> break
    od;
    if
    :: word == IDLE -> assert(!ran && !freed && refs == 1 && in_slot) /* as good as new */
    :: STATE(word) == RECYCLING -> assert(freed && killed && refs == 0)
    :: STATE(word) == LEASED -> assert(freed == !in_slot)
    fi
}

init {
    atomic {
        CALLS;
        run janitor()
    }
}
