# PgTide::Nats
#		A nats-server of a test, and the two topologies that keep the tutorial's promise.
#
# Owns: the server's folder, start and end, and what tests ask of it (through
# build/tools/natsctl).  Does not own: the configurations of the topologies, which
# are the ones in demo/, used as they are.
package PgTide::Nats;

use strict;
use warnings;
use parent 'PgTide::Process';

use File::Path qw(make_path);
use IPC::Run ();
use JSON::PP qw(decode_json);
use PgTide::Test qw(wait_until);

# name, config (text) or config_file; netns; url (as natsctl reaches it from inside netns).
sub new
{
	my ($class, %args) = @_;
	my $dir = "$ENV{TIDE_DATA}/nats-$args{name}";
	make_path($dir);
	my $config = $args{config} // _slurp($args{config_file});
	open my $out, '>', "$dir/nats.conf" or die "$dir/nats.conf: $!";
	print $out $config;
	close $out;
	my $self = PgTide::Process::new(
		$class, %args,
		dir     => $dir,
		log     => "$dir/nats.log",
		url     => $args{url} // 'nats://127.0.0.1:4222',
		command => [ $ENV{TIDE_NATS_SERVER} // 'nats-server', '-c', 'nats.conf' ]);
	return $self;
}

sub _slurp
{
	my ($path) = @_;
	open my $in, '<', $path or die "$path: $!";
	local $/;
	return <$in>;
}

sub start
{
	my ($self) = @_;
	$self->SUPER::start;
	my $ready = wait_until(
		sub { $self->log_text =~ /Server is ready/ || !$self->alive },
		20, "nats-server $self->{name} to be ready");
	die "nats-server $self->{name} did not start:\n" . $self->log_text
	  unless defined $ready && $self->alive;
	return $self;
}

sub restart
{
	my ($self) = @_;
	$self->stop;
	return $self->start;
}

# natsctl's exit status, standard output and standard error.
sub ctl_status
{
	my ($self, @args) = @_;
	my @command = PgTide::Process::in_netns($self->{netns}, "$ENV{TIDE_TOP}/build/tools/natsctl",
		'--server', $self->{url}, @{ $self->{ctl_options} // [] }, @args);
	IPC::Run::run(\@command, '<', \undef, '>', \my $out, '2>', \my $err);
	return ($? >> 8, $out, $err);
}

# Like ctl_status, but dies unless it worked; returns the decoded last line (or nothing).
sub ctl
{
	my ($self, @args) = @_;
	my ($status, $out, $err) = $self->ctl_status(@args);
	die "natsctl @args: $err$out" if $status != 0;
	my @lines = split /\n/, $out;
	return @lines ? decode_json($lines[-1]) : undef;
}

# The stream's number of messages, or undef if it isn't there (yet).
sub stream_messages
{
	my ($self, $stream) = @_;
	my ($status, $out) = $self->ctl_status('stream-info', $stream);
	return $status == 0 ? decode_json($out)->{state}{messages} : undef;
}

# ---- topologies ----

# One server a region, each a JetStream domain, joined by a leaf node.
# Returns {us => ..., eu => ...}, started.
sub leaf
{
	my ($class, $wan) = @_;
	my %server;
	for my $side (qw(us eu))
	{
		$server{$side} = $class->new(
			name        => $side,
			netns       => $wan->netns($side),
			config_file => "$ENV{TIDE_TOP}/demo/leaf/nats-$side.conf",
			url         => "nats://nats-$side:4222")->start;
	}
	return \%server;
}

# The tutorial's gateways between two hubs, a JetStream server behind each.
# Returns {us => hub, eu => hub, us_js => ..., eu_js => ...}, started.
sub hub
{
	my ($class, $wan) = @_;
	my %server;
	for my $side (qw(us eu))
	{
		for my $part ('', '-js')
		{
			(my $key = "$side$part") =~ tr/-/_/;
			$server{$key} = $class->new(
				name        => "$side$part",
				netns       => $wan->netns($side),
				config_file => "$ENV{TIDE_TOP}/demo/hub/nats-$side$part.conf",
				url => $part ? 'nats://127.0.0.1:4223' : "nats://nats-$side:4222")->start;
		}
	}
	return \%server;
}

# Waits until each region's JetStream answers on the region's own URL and reaches the other's.
sub wait_joined
{
	my ($class, $servers, $limit) = @_;
	my %domain = (us => 'eu-west', eu => 'us-east');
	for my $side (qw(us eu))
	{
		my $server = $servers->{$side};
		defined wait_until(
			sub {
				my ($here) = $server->ctl_status('--timeout', 1000, 'account-info');
				my ($there) =
				  $server->ctl_status('--timeout', 1000, '--domain', $domain{$side}, 'account-info');
				return $here == 0 && $there == 0;
			},
			$limit // 30,
			"JetStream of both regions, seen from $side") or return 0;
	}
	return 1;
}

1;
