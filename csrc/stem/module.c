/*
 * The module `_sandpool_stem`, which only the interpreter of a stem loads. docs/architecture.md has the order in which
 * the stem's Python code (pysandpool/_stem) calls it. It is made for the stable ABI, so that one file serves every
 * CPython.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/stage.h"
#include "init/diagnostics.h"
#include "init/stem.h"
#include "stem/branch.h"
#include "stem/process.h"

#define TEXT_MAX ((size_t)60 * 1024) /* of a failure; the pipe of the host takes some more */

/* Where the process goes on in the interpreter, once it is a tenant. */
static jmp_buf tenant;
static const struct sp_command *command;

/* What the process shares with init until then. */
static struct {
    void *at;
    size_t size;
    _Atomic uint32_t *starting;
} with_init;
static PyObject *prepare;

/* Set while a fork is being prepared: the record to fill in, where to write the text, and where to go on, if the Python
 * code calls fail(). */
static struct sp_rec_failed *failure;
static int diagnostics_fd;
static jmp_buf given_up;

static bool serving;

/* ---- failures ---- */

/* Fills in the record with the last line of a traceback, which says what has happened. */
static void fill(struct sp_rec_failed *why, const char *text) {
    char detail[SP_DETAIL_SIZE];
    sp_diagnostics_last_line(text, detail);
    (void)sp_failed(why, SP_STAGE_PRELOAD, ECANCELED, detail);
}

/* Writes the end of a text. */
static void write_end(int fd, const char *text, size_t len, size_t max) {
    size_t skipped = len > max ? len - max : 0;
    (void)!write(fd, text + skipped, len - skipped);
}

static PyObject *fail(PyObject *self, PyObject *text) {
    (void)self;
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    char *at = NULL;
    Py_ssize_t len = 0;
    if (bytes == NULL || PyBytes_AsStringAndSize(bytes, &at, &len) != 0) {
        return NULL;
    }
    if (failure != NULL) {
        fill(failure, at);
        write_end(diagnostics_fd, at, (size_t)len, SP_DIAGNOSTICS_MAX);
        longjmp(given_up, 1);
    }
    struct sp_rec_failed why;
    write_end(2, at, (size_t)len, TEXT_MAX);
    fill(&why, at);
    sp_stem_report(&why);
    _exit(1);
}

/* The exception that is set, as one line. */
static void fill_by_exception(struct sp_rec_failed *why) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *text = value != NULL ? PyObject_Repr(value) : NULL;
    PyObject *bytes = text != NULL ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
    fill(why, bytes != NULL ? PyBytes_AsString(bytes) : "an exception");
}

/* ---- in forks of init ---- */

static int prepare_fork(int diagnostics, bool must, struct sp_rec_failed *why) {
    failure = why;
    diagnostics_fd = diagnostics;
    if (setjmp(given_up) != 0) {
        failure = NULL;
        return -ECANCELED;
    }
    PyOS_AfterFork_Child();
    PyObject *done = PyObject_CallFunctionObjArgs(prepare, must ? Py_True : Py_False, NULL);
    failure = NULL;
    if (done == NULL) {
        fill_by_exception(why);
        return -ECANCELED;
    }
    Py_DECREF(done);
    return 0;
}

static __attribute__((noreturn)) void run(const struct sp_command *wanted, void *shared, size_t size,
                                          _Atomic uint32_t *starting) {
    with_init.at = shared;
    with_init.size = size;
    with_init.starting = starting;
    command = wanted;
    longjmp(tenant, 1);
}

/* ---- the methods ---- */

static PyObject *raise_failed(const char *failed) {
    PyErr_Format(PyExc_RuntimeError, "%s: %s", failed, strerror(errno));
    return NULL;
}

static PyObject *begin(PyObject *self, PyObject *args) {
    (void)self;
    int module, plan;
    if (!PyArg_ParseTuple(args, "ii", &module, &plan)) {
        return NULL;
    }
    const char *failed = sp_stem_begin(module, plan);
    if (failed != NULL) {
        return raise_failed(failed);
    }
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *text_of(const char *text) {
    if (text == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "there is no stem");
        return NULL;
    }
    return PyBytes_FromString(text);
}

static PyObject *source(PyObject *self, PyObject *none) {
    (void)self;
    (void)none;
    return text_of(sp_stem_source());
}

static PyObject *parameters(PyObject *self, PyObject *none) {
    (void)self;
    (void)none;
    return text_of(sp_stem_parameters());
}

/* A list of bytes objects, one for each string of an array that ends with NULL. */
static PyObject *list_of(char *const *strings) {
    PyObject *list = PyList_New(0);
    for (; list != NULL && *strings != NULL; strings++) {
        PyObject *bytes = PyBytes_FromString(*strings);
        if (bytes == NULL || PyList_Append(list, bytes) != 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(bytes);
    }
    return list;
}

/* The process is a tenant now: makes Python objects of the request, and then overwrites what init has left in memory.
 */
static PyObject *become_tenant(void) {
    PyObject *argv = list_of(command->argv);
    PyObject *env = argv != NULL ? list_of(command->env) : NULL;
    int channel = sp_stem_keep_descriptors(command->channel);
    PyObject *request = env != NULL ? Py_BuildValue("(NNi)", argv, env, channel) : NULL;
    void *const shared = with_init.at;
    const size_t size = with_init.size;
    _Atomic uint32_t *const starting = with_init.starting;
    sp_stem_wipe();
    sp_stem_open_up();
    if (shared != NULL) { /* from now on init may look into this process */
        atomic_store(starting, 0);
        (void)munmap(shared, size);
    }
    return request;
}

/* Notes the files of all imported modules, so that the host learns when one changes. Modules without a file are
 * skipped.
 */
static int note_files(void) {
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *all = modules != NULL ? PyDict_Values(modules) : NULL;
    int rc = all != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_Size(all); i++) {
        PyObject *file = PyObject_GetAttrString(PyList_GetItem(all, i), "__file__");
        PyObject *path = NULL;
        if (file != NULL && PyUnicode_Check(file) && PyUnicode_FSConverter(file, &path) != 0) {
            rc = sp_stem_note_file(PyBytes_AsString(path));
        }
        Py_XDECREF(path);
        Py_XDECREF(file);
        PyErr_Clear();
    }
    Py_XDECREF(all);
    return rc;
}

static PyObject *serve(PyObject *self, PyObject *callable) {
    static struct sp_stem stem = {.prepare = prepare_fork, .run = run, .is_stale = sp_stem_is_stale};
    char names[1024];
    (void)self;
    if (sp_stem_source() == NULL || serving) {
        PyErr_SetString(PyExc_RuntimeError, "there is no stem");
        return NULL;
    }
    sp_stem_threads(names, sizeof names);
    if (names[0] != '\0') {
        PyErr_Format(PyExc_RuntimeError, "a preload must not leave threads running, and these run: %s", names);
        return NULL;
    }
    sp_stem_shared_memory(names, sizeof names);
    if (names[0] != '\0') {
        PyErr_Format(PyExc_RuntimeError,
                     "a preload must not leave shared memory, which all sandboxes could write to; `after_fork` can "
                     "make it in each: %s",
                     names);
        return NULL;
    }
    if (note_files() != 0) {
        return PyErr_NoMemory();
    }
    const char *failed = sp_stem_make_ready(&stem);
    if (failed != NULL) {
        return raise_failed(failed);
    }
    serving = true;
    prepare = callable;
    /* What it does before a fork holds for all of them: this process itself does not run the interpreter any more. */
    PyOS_BeforeFork();
    if (setjmp(tenant) == 0) {
        sp_stem_loop(&stem);
        _exit(0);
    }
    return become_tenant();
}

static PyObject *branch(PyObject *self, PyObject *args) {
    int control;
    (void)self;
    if (!PyArg_ParseTuple(args, "i", &control)) {
        return NULL;
    }
    PyOS_BeforeFork();
    int rc = sp_stem_branch(control);
    if (rc == 0) {
        PyOS_AfterFork_Child();
    } else {
        PyOS_AfterFork_Parent();
    }
    if (rc < 0) {
        errno = -rc;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(rc == 0);
}

static PyMethodDef methods[] = {
    {"begin", begin, METH_VARARGS, NULL},
    {"source", source, METH_NOARGS, NULL},
    {"parameters", parameters, METH_NOARGS, NULL},
    {"fail", fail, METH_O, NULL},
    {"serve", serve, METH_O, NULL},
    {"branch", branch, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_sandpool_stem", .m_size = -1,
                                        .m_methods = methods};

PyMODINIT_FUNC PyInit__sandpool_stem(void) { return PyModule_Create(&definition); }
