# PgTide::Process
#		One program a test started: its log, its signals, its end.
#
# Owns: starting in a network namespace and folder, signals, and ending every
# process it started when the test ends, however it ends.  Does not own: what the
# program is (Nats.pm, Relay.pm, Wan.pm).
package PgTide::Process;

use strict;
use warnings;

use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);

my %running;    # pid => PgTide::Process

# name, command (array); netns, dir, log, env (hash), stdin, stdout (handles) as wanted.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args, pid => undef}, $class;
	die "no command for $self->{name}" unless $self->{command};
	return $self;
}

# Prefixes a command so that it runs in a namespace (undef: here).
sub in_netns
{
	my ($netns, @command) = @_;
	return defined $netns ? ('nsenter', "--net=/run/netns/$netns", '--', @command) : @command;
}

sub start
{
	my ($self) = @_;
	die "$self->{name} runs already" if $self->alive;
	$self->{log_start} = -s ($self->{log} // '') || 0;

	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$self->_exec;
	}
	$self->{pid} = $pid;
	$self->{status} = undef;
	$running{$pid} = $self;
	return $self;
}

# The child's side of start: never returns, and never runs the parent's END blocks.
sub _exec
{
	my ($self) = @_;
	my @command = in_netns($self->{netns}, @{ $self->{command} });
	my $ok = eval {
		if ($self->{dir}) { chdir $self->{dir} or die "chdir $self->{dir}: $!"; }
		if ($self->{log})
		{
			open STDOUT, '>>', $self->{log} or die "$self->{log}: $!" unless $self->{stdout};
			open STDERR, '>>', $self->{log} or die "$self->{log}: $!";
		}
		if ($self->{stdout}) { open STDOUT, '>&', $self->{stdout} or die "dup: $!"; }
		if ($self->{stdin}) { open STDIN, '<&', $self->{stdin} or die "dup: $!"; }
		else { open STDIN, '<', '/dev/null' or die "/dev/null: $!"; }
		@ENV{ keys %{ $self->{env} } } = values %{ $self->{env} } if $self->{env};
		no warnings 'exec';
		exec { $command[0] } @command;
	};
	print STDERR "cannot start @command: ", $@ || $!, "\n";
	POSIX::_exit(127);
}

sub pid { return $_[0]{pid}; }

# Reaps; true while the process runs.
sub alive
{
	my ($self) = @_;
	return 0 unless $self->{pid};
	return 1 if waitpid($self->{pid}, WNOHANG) == 0;
	$self->{status} = $?;
	delete $running{ $self->{pid} };
	$self->{pid} = undef;
	return 0;
}

sub signal
{
	my ($self, $signal) = @_;
	die "$self->{name} does not run" unless $self->{pid};
	return kill $signal, $self->{pid};
}

# Waits for the end; returns the wait status, or undef if it did not come in time.
sub wait_end
{
	my ($self, $limit) = @_;
	my $until = time + $limit;
	while ($self->alive)
	{
		return undef if time > $until;
		sleep 0.01;
	}
	return $self->{status};
}

# Asks to end and returns the exit status (-1: did not end in time and was killed).
sub stop
{
	my ($self, $limit) = @_;
	return $self->{status} unless $self->alive;
	$self->signal('CONT');
	$self->signal('TERM');
	my $status = $self->wait_end($limit // 20);
	return $status if defined $status;
	$self->kill9;
	return -1;
}

sub kill9
{
	my ($self) = @_;
	return unless $self->alive;
	$self->signal('KILL');
	$self->wait_end(10);
	return;
}

sub freeze { return $_[0]->signal('STOP'); }
sub thaw { return $_[0]->signal('CONT'); }

# What the program has logged since its last start.
sub log_text
{
	my ($self) = @_;
	open my $handle, '<', $self->{log} or return '';
	seek $handle, $self->{log_start} // 0, 0;
	local $/;
	return <$handle> // '';
}

# Resident memory in KiB now, and the highest it was.
sub memory_kib
{
	my ($self) = @_;
	open my $handle, '<', "/proc/$self->{pid}/status" or return;
	my %value = map { /^(VmRSS|VmHWM):\s+(\d+)/ ? ($1, $2) : () } <$handle>;
	return ($value{VmRSS}, $value{VmHWM});
}

END
{
	my $status = $?;
	for my $process (values %running)
	{
		kill 'KILL', $process->{pid} if $process->{pid};
	}
	$? = $status;
}

1;
