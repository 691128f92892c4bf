// Notes what a process does to the files below one folder, for the power-loss tests.
//
// Loaded with LD_PRELOAD. A seccomp filter sends every system call that changes files, whoever makes it, to
// a handler here; only the handler's own system call instruction passes. So no call is missed, also none
// that a library makes without libc. The handler does the call and appends a record to the log while it
// holds one lock, so the order of records is the order of changes. A sync is only noted. What such a disk
// would hold is worked out later, from the records (`disk.rs`). A call that the records cannot express ends
// the process with a message.
//
// Environment: SAMARA_POWER_FOLDER (the folder, absolute, no links in it), SAMARA_POWER_LOG (the log, to be
// appended to). Without them nothing happens.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

// power_syscall(number, a, b, c, d, e, f): the one system call that the filter lets pass.
long power_syscall(long number, ...);
extern const char power_syscall_end[];
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
__asm__(".text\n.hidden power_syscall\n.globl power_syscall\n.type power_syscall,@function\npower_syscall:\n"
        "mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nmov %r8,%r10\nmov %r9,%r8\n"
        "mov 8(%rsp),%r9\nsyscall\n.hidden power_syscall_end\n.globl power_syscall_end\n"
        "power_syscall_end:\nret\n");
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
__asm__(".text\n.hidden power_syscall\n.globl power_syscall\n.type power_syscall,%function\npower_syscall:\n"
        "mov x8,x0\nmov x0,x1\nmov x1,x2\nmov x2,x3\nmov x3,x4\nmov x4,x5\nmov x5,x6\nsvc #0\n"
        ".hidden power_syscall_end\n.globl power_syscall_end\npower_syscall_end:\nret\n");
#else
#error "the system calls of this processor are not known here"
#endif
#define CALL(number, a, b, c, d, e, f)                                                              \
    power_syscall((long)(number), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL3(number, a, b, c) CALL(number, a, b, c, 0, 0, 0)

// One record of the log, all little endian; `log.rs` reads it.
enum kind { WRITE = 1, LENGTH = 2, SYNC = 3, CREATE = 4, MKDIR = 5, REMOVE = 6, RENAME = 7, LINK = 8 };
#define MAGIC 0x52574f50u
struct record {
    uint32_t magic;
    uint32_t kind;
    uint64_t node;   // inode of the file, or of the folder that has the entry
    uint64_t other;  // inode of what the entry names; RENAME: of the other folder
    uint64_t offset; // WRITE: of the bytes; LENGTH: the length; CREATE, MKDIR: the mode
    uint64_t length; // bytes that follow: what was written, or names (RENAME: both, 0 between)
};

static char folder[PATH_MAX];
static size_t folder_length;
static int log_file = -1;
// Where the program's output went at the start: the test itself made these files.
static struct stat outputs[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void say(const char *text) { CALL3(SYS_write, 2, text, strlen(text)); }

__attribute__((noreturn)) static void die(const char *what) {
    say("power shim: ");
    say(what);
    say("\n");
    for (;;) CALL3(SYS_exit_group, 97, 0, 0);
}

// Appends to the log. The bytes are those of `vectors`, but no more than `length`.
static void note(struct record record, const struct iovec *vectors, int count) {
    struct iovec parts[34];
    if (count > 32) die("more than 32 parts in one write");
    record.magic = MAGIC;
    parts[0] = (struct iovec){&record, sizeof record};
    uint64_t left = record.length;
    for (int i = 0; i < count; i++) {
        parts[1 + i] = vectors[i];
        if (parts[1 + i].iov_len > left) parts[1 + i].iov_len = left;
        left -= parts[1 + i].iov_len;
    }
    int first = 0, end = count + 1;
    while (first < end) {
        long done = CALL3(SYS_writev, log_file, parts + first, end - first);
        if (done == -EINTR) continue;
        if (done < 0) die("the log cannot be written");
        while (first < end && (size_t)done >= parts[first].iov_len) done -= parts[first++].iov_len;
        if (first < end) {
            parts[first].iov_base = (char *)parts[first].iov_base + done;
            parts[first].iov_len -= done;
        }
    }
}

static void note_bytes(struct record record, const void *bytes) {
    struct iovec vector = {(void *)bytes, record.length};
    note(record, &vector, 1);
}

// The number as text behind a prefix.
static void fd_path(char *path, int fd) {
    char digits[16];
    int count = 0;
    strcpy(path, "/proc/self/fd/");
    size_t end = strlen(path);
    do digits[count++] = '0' + fd % 10; while ((fd /= 10) > 0);
    while (count > 0) path[end++] = digits[--count];
    path[end] = 0;
}

// Whether an open file or folder is, or lies, below the watched folder.
static int below(int fd) {
    char link[64], path[PATH_MAX];
    fd_path(link, fd);
    long length = CALL(SYS_readlinkat, AT_FDCWD, link, path, sizeof path, 0, 0);
    return length >= (long)folder_length && memcmp(path, folder, folder_length) == 0
        && (length == (long)folder_length || path[folder_length] == '/');
}

// Whether changes of an open file are to be noted; fills in what is known of it.
static int watched(int fd, struct stat *about) {
    if (CALL3(SYS_fstat, fd, about, 0) != 0) return 0;
    for (int i = 0; i < 2; i++) {
        if (about->st_ino == outputs[i].st_ino && about->st_dev == outputs[i].st_dev) return 0;
    }
    return (S_ISREG(about->st_mode) || S_ISDIR(about->st_mode)) && below(fd);
}

struct entry {
    int watched;
    uint64_t folder;
    char name[NAME_MAX + 1];
};

// The folder and the name that a path leads to; its last part need not be there.
static struct entry entry_of(int at, const char *path) {
    struct entry entry = {0};
    char parent[PATH_MAX];
    size_t end = strlen(path);
    if (end == 0 || end >= sizeof parent) return entry;
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    if (end - start > NAME_MAX) return entry;
    memcpy(entry.name, path + start, end - start);
    memcpy(parent, path, start);
    if (start == 0) parent[start++] = '.';
    parent[start] = 0;
    int fd = CALL(SYS_openat, at, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0) return entry;
    struct stat about;
    if (CALL3(SYS_fstat, fd, &about, 0) == 0 && below(fd)) {
        entry.watched = 1;
        entry.folder = about.st_ino;
    }
    CALL3(SYS_close, fd, 0, 0);
    return entry;
}

static int look(int at, const char *path, struct stat *about) {
    return CALL(SYS_newfstatat, at, path, about, AT_SYMLINK_NOFOLLOW, 0, 0) == 0;
}

static void note_entry(uint32_t kind, const struct entry *entry, uint64_t other, uint64_t mode) {
    struct record record = {0, kind, entry->folder, other, mode, strlen(entry->name)};
    note_bytes(record, entry->name);
}

static long do_open(int at, const char *path, int flags, int mode) {
    struct entry entry = entry_of(at, path);
    if (!entry.watched) return CALL(SYS_openat, at, path, flags, mode, 0, 0);
    if ((flags & O_TMPFILE) == O_TMPFILE) die("a file without a name is not modelled");
    struct stat before, about;
    int existed = look(at, path, &before);
    long fd = CALL(SYS_openat, at, path, flags, mode, 0, 0);
    if (fd < 0) return fd;
    if (existed && S_ISLNK(before.st_mode)) die("a link is not modelled");
    CALL3(SYS_fstat, fd, &about, 0);
    if (!existed) {
        note_entry(CREATE, &entry, about.st_ino, about.st_mode & 07777);
    } else if ((flags & O_TRUNC) && S_ISREG(about.st_mode)) {
        note((struct record){0, LENGTH, about.st_ino, 0, 0, 0}, NULL, 0);
    }
    return fd;
}

// After a write of `done` bytes that begin at `offset`, or end at the file's position if that is negative.
static long written(int fd, const struct stat *about, long done, long offset,
                    const struct iovec *vectors, int count) {
    if (done <= 0) return done;
    long flags = CALL3(SYS_fcntl, fd, F_GETFL, 0);
    if (offset < 0) {
        long end = CALL3(SYS_lseek, fd, 0, SEEK_CUR);
        if (end < 0) die("the position of a file is not known");
        offset = end - done;
    } else if (flags & O_APPEND) {
        die("a write at an offset of a file that is appended to is not modelled");
    }
    note((struct record){0, WRITE, about->st_ino, 0, offset, done}, vectors, count);
    if (flags & O_DSYNC) note((struct record){0, SYNC, about->st_ino, 0, 0, 0}, NULL, 0);
    return done;
}

static long do_rename(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    struct entry source = entry_of(from_at, from), target = entry_of(to_at, to);
    if (source.watched != target.watched) die("a rename out of the folder, or into it, is not modelled");
    if (source.watched && (flags & ~RENAME_NOREPLACE)) die("an exchange of names is not modelled");
    long done = CALL(SYS_renameat2, from_at, from, to_at, to, flags, 0);
    if (done != 0 || !source.watched) return done;
    struct iovec names[2] = {{source.name, strlen(source.name) + 1}, {target.name, strlen(target.name)}};
    uint64_t length = names[0].iov_len + names[1].iov_len;
    note((struct record){0, RENAME, source.folder, target.folder, 0, length}, names, 2);
    return done;
}

static long do_remove(int at, const char *path, int flags) {
    struct entry entry = entry_of(at, path);
    long done = CALL3(SYS_unlinkat, at, path, flags);
    if (done == 0 && entry.watched) note_entry(REMOVE, &entry, 0, 0);
    return done;
}

static long do_mkdir(int at, const char *path, int mode) {
    struct entry entry = entry_of(at, path);
    long done = CALL3(SYS_mkdirat, at, path, mode);
    struct stat about;
    if (done == 0 && entry.watched) {
        if (!look(at, path, &about)) die("a new folder cannot be looked at");
        note_entry(MKDIR, &entry, about.st_ino, about.st_mode & 07777);
    }
    return done;
}

static long do_link(int from_at, const char *from, int to_at, const char *to, int flags) {
    struct entry source = entry_of(from_at, from), target = entry_of(to_at, to);
    long done = CALL(SYS_linkat, from_at, from, to_at, to, flags, 0);
    struct stat about;
    if (done == 0 && target.watched) {
        if (!source.watched) die("a link into the folder is not modelled");
        if (!look(to_at, to, &about)) die("a new link cannot be looked at");
        note_entry(LINK, &target, about.st_ino, 0);
    }
    return done;
}

static void refuse_entry(int at, const char *path, const char *what) {
    if (entry_of(at, path).watched) die(what);
}

static void refuse_file(int fd, const char *what) {
    struct stat about;
    if (watched(fd, &about)) die(what);
}

static long do_fallocate(long *a) {
    struct stat about;
    int noted = watched(a[0], &about);
    if (noted && a[1] != 0) die("a hole in a file is not modelled");
    long done = CALL(SYS_fallocate, a[0], a[1], a[2], a[3], 0, 0);
    if (done == 0 && noted && a[2] + a[3] > about.st_size) {
        note((struct record){0, LENGTH, about.st_ino, 0, a[2] + a[3], 0}, NULL, 0);
    }
    return done;
}

// Does a system call that was held up.
static long perform(long number, long *a) {
    struct stat about;
    long done = -ENOSYS;
    switch (number) {
    case SYS_write:
        done = CALL3(number, a[0], a[1], a[2]);
        if (done > 0 && watched(a[0], &about)) {
            struct iovec vector = {(void *)a[1], a[2]};
            written(a[0], &about, done, -1, &vector, 1);
        }
        return done;
    case SYS_writev:
        done = CALL3(number, a[0], a[1], a[2]);
        if (done > 0 && watched(a[0], &about)) written(a[0], &about, done, -1, (void *)a[1], a[2]);
        return done;
    case SYS_pwrite64:
        done = CALL(number, a[0], a[1], a[2], a[3], 0, 0);
        if (done > 0 && watched(a[0], &about)) {
            struct iovec vector = {(void *)a[1], a[2]};
            written(a[0], &about, done, a[3], &vector, 1);
        }
        return done;
    case SYS_ftruncate:
        done = CALL3(number, a[0], a[1], 0);
        if (done == 0 && watched(a[0], &about)) {
            note((struct record){0, LENGTH, about.st_ino, 0, a[1], 0}, NULL, 0);
        }
        return done;
    case SYS_fallocate: return do_fallocate(a);
    case SYS_fsync:
    case SYS_fdatasync:
        if (!watched(a[0], &about)) return CALL3(number, a[0], 0, 0);
        note((struct record){0, SYNC, about.st_ino, 0, 0, 0}, NULL, 0);
        return 0;
    case SYS_openat: return do_open(a[0], (char *)a[1], a[2], a[3]);
    case SYS_renameat2: return do_rename(a[0], (char *)a[1], a[2], (char *)a[3], a[4]);
    case SYS_renameat: return do_rename(a[0], (char *)a[1], a[2], (char *)a[3], 0);
    case SYS_unlinkat: return do_remove(a[0], (char *)a[1], a[2]);
    case SYS_mkdirat: return do_mkdir(a[0], (char *)a[1], a[2]);
    case SYS_linkat: return do_link(a[0], (char *)a[1], a[2], (char *)a[3], a[4]);
#if defined(__x86_64__)
    case SYS_open: return do_open(AT_FDCWD, (char *)a[0], a[1], a[2]);
    case SYS_creat: return do_open(AT_FDCWD, (char *)a[0], O_CREAT | O_WRONLY | O_TRUNC, a[1]);
    case SYS_rename: return do_rename(AT_FDCWD, (char *)a[0], AT_FDCWD, (char *)a[1], 0);
    case SYS_unlink: return do_remove(AT_FDCWD, (char *)a[0], 0);
    case SYS_rmdir: return do_remove(AT_FDCWD, (char *)a[0], AT_REMOVEDIR);
    case SYS_mkdir: return do_mkdir(AT_FDCWD, (char *)a[0], a[1]);
    case SYS_link: return do_link(AT_FDCWD, (char *)a[0], AT_FDCWD, (char *)a[1], 0);
    case SYS_symlink: refuse_entry(AT_FDCWD, (char *)a[1], "a link is not modelled"); break;
    case SYS_mknod: refuse_entry(AT_FDCWD, (char *)a[0], "a special file is not modelled"); break;
#endif
    case SYS_symlinkat: refuse_entry(a[1], (char *)a[2], "a link is not modelled"); break;
    case SYS_mknodat: refuse_entry(a[0], (char *)a[1], "a special file is not modelled"); break;
    case SYS_truncate:
        refuse_entry(AT_FDCWD, (char *)a[0], "truncate by path is not modelled");
        break;
    case SYS_pwritev:
    case SYS_pwritev2: refuse_file(a[0], "pwritev is not modelled"); break;
    case SYS_sendfile: refuse_file(a[0], "sendfile into a file is not modelled"); break;
    case SYS_splice:
    case SYS_copy_file_range: refuse_file(a[2], "a copy by the system is not modelled"); break;
    case SYS_mmap: refuse_file(a[4], "a shared mapping is not modelled"); break;
    // Callers fall back to openat.
    case SYS_openat2: return -ENOSYS;
    case SYS_io_uring_setup: die("io_uring is not modelled");
    case SYS_execve:
    case SYS_execveat: die("another program is not modelled");
    default: die("a call that the filter should not have sent");
    }
    return CALL(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void on_trap(int signal, siginfo_t *info, void *raw) {
    ucontext_t *context = raw;
    (void)signal;
#if defined(__x86_64__)
    greg_t *r = context->uc_mcontext.gregs;
    long a[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
#else
    unsigned long long *r = context->uc_mcontext.regs;
    long a[6] = {r[0], r[1], r[2], r[3], r[4], r[5]};
#endif
    // A call on a socket or a pipe may block, and changes no file.
    struct stat about;
    long number = info->si_syscall, done;
    int passes = (number == SYS_write || number == SYS_writev)
        && (CALL3(SYS_fstat, a[0], &about, 0) != 0 || !S_ISREG(about.st_mode));
    if (passes) {
        done = CALL3(number, a[0], a[1], a[2]);
    } else {
        pthread_mutex_lock(&lock);
        done = perform(number, a);
        pthread_mutex_unlock(&lock);
    }
#if defined(__x86_64__)
    r[REG_RAX] = done;
#else
    r[0] = done;
#endif
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
// Goes on with the next instruction if equal (or if a bit is set), else skips `n`.
#define IF_EQUAL(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n)
#define IF_BIT(value, n) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, value, 0, n)
#define TRAP(number) IF_EQUAL(number, 1), RETURN(SECCOMP_RET_TRAP)
// Of a call with flags only if one of them is set.
#define TRAP_FLAGS(number, argument, flags)                                                        \
    IF_EQUAL(number, 4), LOAD(args[argument]), IF_BIT(flags, 1), RETURN(SECCOMP_RET_TRAP),         \
        RETURN(SECCOMP_RET_ALLOW)
#define MAKES (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

static void watch_calls(void) {
    uint64_t own = (uint64_t)(uintptr_t)power_syscall_end;
    struct sock_filter filter[] = {
        LOAD(arch),
        IF_EQUAL(ARCHITECTURE, 1),
        BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(instruction_pointer),
        IF_EQUAL((uint32_t)own, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        IF_EQUAL((uint32_t)(own >> 32), 1),
        RETURN(SECCOMP_RET_ALLOW),
        LOAD(nr),
        TRAP(SYS_write), TRAP(SYS_writev), TRAP(SYS_pwrite64), TRAP(SYS_pwritev), TRAP(SYS_pwritev2),
        TRAP(SYS_ftruncate), TRAP(SYS_truncate), TRAP(SYS_fallocate), TRAP(SYS_fsync),
        TRAP(SYS_fdatasync), TRAP(SYS_renameat), TRAP(SYS_renameat2), TRAP(SYS_unlinkat),
        TRAP(SYS_mkdirat), TRAP(SYS_linkat), TRAP(SYS_symlinkat), TRAP(SYS_mknodat),
        TRAP(SYS_sendfile), TRAP(SYS_splice), TRAP(SYS_copy_file_range), TRAP(SYS_openat2),
        TRAP(SYS_io_uring_setup), TRAP(SYS_execve), TRAP(SYS_execveat),
#if defined(__x86_64__)
        TRAP(SYS_creat), TRAP(SYS_rename), TRAP(SYS_unlink), TRAP(SYS_rmdir), TRAP(SYS_mkdir),
        TRAP(SYS_link), TRAP(SYS_symlink), TRAP(SYS_mknod),
        TRAP_FLAGS(SYS_open, 1, MAKES),
#endif
        TRAP_FLAGS(SYS_openat, 2, MAKES),
        // Shared, writable and of a file.
        IF_EQUAL(SYS_mmap, 7),
        LOAD(args[2]), IF_BIT(PROT_WRITE, 5),
        LOAD(args[3]), IF_BIT(MAP_SHARED, 3),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 2, 0),
        RETURN(SECCOMP_RET_TRAP), RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        die("the system allows no filter of system calls");
    }
}

__attribute__((constructor)) static void begin(void) {
    const char *watched_folder = getenv("SAMARA_POWER_FOLDER"), *log = getenv("SAMARA_POWER_LOG");
    if (watched_folder == NULL || log == NULL) return;
    folder_length = strlen(watched_folder);
    if (folder_length >= sizeof folder) die("the folder's path is too long");
    memcpy(folder, watched_folder, folder_length);
    for (int i = 0; i < 2; i++) CALL3(SYS_fstat, 1 + i, &outputs[i], 0);
    log_file = CALL(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0, 0);
    if (log_file < 0) die("the log cannot be opened");
    // Nothing may interrupt the handler: a signal's own handler may write, too.
    struct sigaction action = {0};
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO;
    sigfillset(&action.sa_mask);
    if (sigaction(SIGSYS, &action, NULL) != 0) die("the trap cannot be set");
    watch_calls();
}
