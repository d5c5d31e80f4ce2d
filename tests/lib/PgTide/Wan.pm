# PgTide::Wan
#		Two network namespaces, tide_us and tide_eu, and the link between them.
#
# Owns: the namespaces and the WAN program (tests/tools/wan.c) that joins them.
# Does not own: the servers in them.  tide_us is 10.79.0.1 (nats-us), tide_eu is
# 10.79.0.2 (nats-eu); nothing else can be reached from inside.  Where no TUN device can
# be made the link is a veth pair, which can be cut but not slowed.
package PgTide::Wan;

use strict;
use warnings;

use IO::Handle;
use JSON::PP qw(decode_json);
use PgTide::Process;

our %ADDRESS = (us => '10.79.0.1', eu => '10.79.0.2');

sub netns { return "tide_$_[1]"; }

# Why there can be no WAN here; undef if there can.
sub why_not
{
	return 'not in a sandbox (run it by scripts/tap)' unless ($ENV{TIDE_SANDBOX} // '') eq '1';
	return;
}

# Why delay, loss and rate can't be had; undef if they can.
sub why_no_delay
{
	my ($class) = @_;
	return $class->why_not // (open(my $tun, '+<', '/dev/net/tun') ? undef : "/dev/net/tun: $!");
}

sub _run
{
	my (@command) = @_;
	system(@command) == 0 or die "failed: @command\n";
	return;
}

sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args}, $class;
	die $class->why_not if $class->why_not;
	for my $side (qw(us eu))
	{
		_run(qw(ip netns add), $class->netns($side));
		_run(qw(ip -n), $class->netns($side), qw(link set lo up));
	}
	if (defined $class->why_no_delay) { $self->_join_by_veth; }
	else { $self->_join_by_tun; }
	return $self;
}

sub _join_by_veth
{
	my ($self) = @_;
	_run(qw(ip -n tide_us link add wan0 type veth peer name wan0 netns tide_eu));
	for my $side (qw(us eu))
	{
		_run(qw(ip -n), $self->netns($side), qw(addr add), "$ADDRESS{$side}/24", qw(dev wan0));
		_run(qw(ip -n), $self->netns($side), qw(link set wan0 up));
	}
	return;
}

sub _join_by_tun
{
	my ($self) = @_;
	pipe(my $their_in, my $to) or die "pipe: $!";
	pipe(my $from, my $their_out) or die "pipe: $!";
	$self->{to} = $to;
	$self->{from} = $from;
	$to->autoflush(1);
	$self->{process} = PgTide::Process->new(
		name    => 'wan',
		command => [
			"$ENV{TIDE_TOP}/build/tools/wan",
			'tide_us', "$ADDRESS{us}/24", 'tide_eu', "$ADDRESS{eu}/24"
		],
		stdin  => $their_in,
		stdout => $their_out)->start;
	close $their_in;
	close $their_out;
	$self->_expect('ready');
	return;
}

sub _expect
{
	my ($self, $wanted) = @_;
	my $line = readline $self->{from};
	die "the WAN program died\n" unless defined $line;
	chomp $line;
	die "the WAN program says: $line\n" if $line ne $wanted;
	return;
}

sub command
{
	my ($self, $command) = @_;
	die "this link can only be cut: " . $self->why_no_delay unless $self->{process};
	print { $self->{to} } "$command\n";
	return $self->_expect('ok');
}

# Milliseconds one way.
sub delay
{
	my ($self, $ms, $jitter) = @_;
	return $self->command("delay $ms " . ($jitter // 0));
}

sub loss { return $_[0]->command("loss $_[1]"); }
sub rate { return $_[0]->command("rate $_[1]"); }

# A black hole: packets vanish, nobody is told.  $way: 'ab' (us to eu), 'ba', or both.
sub cut
{
	my ($self, $way) = @_;
	return $self->command('cut ' . ($way // '')) if $self->{process};
	$self->_nft($_, 'add table inet hole;'
		  . 'add chain inet hole in { type filter hook input priority 0; };'
		  . 'add rule inet hole in iifname "wan0" drop')
	  for $self->_receivers($way);
	return;
}

sub heal
{
	my ($self, $way) = @_;
	return $self->command('heal ' . ($way // '')) if $self->{process};
	$self->_nft($_, 'delete table inet hole') for $self->_receivers($way);
	return;
}

# The sides that a way leads to.
sub _receivers
{
	my ($self, $way) = @_;
	return defined $way ? $way eq 'ab' ? 'eu' : 'us' : qw(us eu);
}

sub _nft
{
	my ($self, $side, $rules) = @_;
	return _run(PgTide::Process::in_netns($self->netns($side), 'nft', $rules));
}

# A clean cut: whoever sends over the link is told at once that the connection is gone.
sub cut_cleanly
{
	my ($self) = @_;
	for my $side (qw(us eu))
	{
		my $peer = $ADDRESS{ $side eq 'us' ? 'eu' : 'us' };
		$self->_nft($side, 'add table inet cut;'
			  . 'add chain inet cut out { type filter hook output priority 0; };'
			  . "add rule inet cut out ip daddr $peer meta l4proto tcp reject with tcp reset;"
			  . "add rule inet cut out ip daddr $peer reject");
	}
	return;
}

sub heal_cleanly
{
	my ($self) = @_;
	$self->_nft($_, 'delete table inet cut') for qw(us eu);
	return;
}

# {ab => {forwarded, lost, overflowed}, ba => {...}}
sub stats
{
	my ($self) = @_;
	print { $self->{to} } "stats\n";
	my $stats = decode_json(scalar readline $self->{from});
	$self->_expect('ok');
	return $stats;
}

sub stop
{
	my ($self) = @_;
	if ($self->{process})
	{
		close $self->{to};
		$self->{process}->wait_end(5);
	}
	_run(qw(ip netns del), $self->netns($_)) for qw(us eu);
	return;
}

1;
