# PgTide::Duo
#		Two regions as cheaply as it gets: two databases of one server, and one broker.
#
# Owns: the databases us and eu (regions us-east and eu-west), one nats-server without a domain that
# both use, a relay for each, and short ways to ask them things.  Does not own: links
# between regions (Pair.pm); here nothing can be cut.
package PgTide::Duo;

use strict;
use warnings;

use Encode ();
use JSON::PP ();
use Test::More;

use PgTide::Nats;
use PgTide::Region;
use PgTide::Relay;
use PgTide::Test qw(wait_until);

our %REGION = (us => 'us-east', eu => 'eu-west');
our $NATS_PORT = 4222;

my $json = JSON::PP->new->canonical->allow_nonref->utf8->max_depth(10_000);

# nats: 0 for no broker, or its configuration as text; preload, conf: as in PgTide::Region.
sub new
{
	my ($class, %args) = @_;
	my $self = bless {%args}, $class;
	$self->{node} = PgTide::Region->make($args{name} // 'duo', create => 0,
		preload => $args{preload}, conf => $args{conf});
	$self->make_region($_, $REGION{$_}) for qw(us eu);
	$self->{node}->make_relay_role;
	$self->start_nats($args{nats}) unless defined $args{nats} && !$args{nats};
	return $self;
}

# A further database with the extension, and that region's name if one is given.
sub make_region
{
	my ($self, $db, $name) = @_;
	$self->{node}->safe_psql('postgres', sprintf 'CREATE DATABASE %s', ident($db));
	$self->sql($db, 'CREATE EXTENSION pg_tide');
	$self->sql($db, sprintf 'SELECT tide.region_init(%s)', literal($name)) if defined $name;
	return;
}

sub nats_config
{
	my ($self, $more) = @_;
	return qq(server_name: "duo"\nlisten: "127.0.0.1:$NATS_PORT"\njetstream { store_dir: "data" }\n)
	  . ($more // '');
}

# $config: a whole configuration; default: nats_config.  args: for PgTide::Nats (ctl_options, url).
sub start_nats
{
	my ($self, $config, %args) = @_;
	$self->{nats} = PgTide::Nats->new(
		name   => 'duo',
		url    => "nats://127.0.0.1:$NATS_PORT",
		config => $config // $self->nats_config,
		%args)->start;
	return $self->{nats};
}

# Another configuration for the broker, its data kept.
sub change_nats
{
	my ($self, $config) = @_;
	$self->{nats}->stop;
	open my $out, '>', "$self->{nats}{dir}/nats.conf" or die "nats.conf: $!";
	print $out $config;
	close $out;
	return $self->{nats}->start;
}

sub node { return $_[0]{node}; }
sub nats { return $_[0]{nats}; }
sub relay { return $_[0]{relay}{ $_[1] }; }

# ---- SQL ----

sub ident
{
	my ($name) = @_;
	$name =~ s/"/""/g;
	return qq("$name");
}

# Any text (as bytes) as an SQL literal; undef is NULL.
sub literal
{
	my ($text) = @_;
	return 'NULL' unless defined $text;
	$text = Encode::encode_utf8($text) if utf8::is_utf8($text);
	return "E'" . join('', map { /[A-Za-z0-9 _.,:;\/{}\[\]()"+*=<>|\@!?#%&^~\$-]/ ? $_ : sprintf '\\x%02x', ord }
		  split //, $text) . "'";
}

# A Perl structure as a jsonb literal; text is taken as JSON already.
sub jsonb
{
	my ($value) = @_;
	return literal(ref $value ? $json->encode($value) : $value) . '::jsonb';
}

# Dies unless it works.
sub sql
{
	my ($self, $db, $sql) = @_;
	return $self->{node}->safe_psql($db, $sql);
}

# Standard error of a statement that must fail ('' if it did not); as a role, if one is given.
sub error_of
{
	my ($self, $db, $sql, $role) = @_;
	my $err = '';
	my $status = $self->{node}->psql($db, $sql,
		stderr       => \$err,
		on_error_die => 0,
		extra_params => [ '-v', 'VERBOSITY=verbose', $role ? ('-U', $role) : () ]);
	return $status == 0 ? '' : $err;
}

# One value that is JSON, decoded.
sub json
{
	my ($self, $db, $sql) = @_;
	return $json->decode($self->sql($db, $sql));
}

# Rows of a query as hashes.
sub rows
{
	my ($self, $db, $query) = @_;
	return $self->json($db, "SELECT coalesce(jsonb_agg(to_jsonb(q)), '[]') FROM ($query) q");
}

# ---- setting up ----

sub outbox_to_nats
{
	my ($self, $db, $pipeline, $outbox, %config) = @_;
	return $self->sql($db, sprintf 'SELECT tide.relay_set_outbox(%s, %s, %s)', literal($pipeline),
		literal($outbox),
		jsonb({ sink_type => 'nats', url => "nats://127.0.0.1:$NATS_PORT", %config }));
}

sub inbox_from_nats
{
	my ($self, $db, $pipeline, $inbox, %config) = @_;
	return $self->sql($db, sprintf 'SELECT tide.relay_set_inbox(%s, %s, %s)', literal($pipeline),
		literal($inbox),
		jsonb(
			{
				source_type  => 'nats',
				url          => "nats://127.0.0.1:$NATS_PORT",
				durable_name => $pipeline,
				%config
			}));
}

sub direct
{
	my ($self, $db, $pipeline, $outbox, $to, $inbox, %config) = @_;
	return $self->sql($db, sprintf 'SELECT tide.relay_set_outbox(%s, %s, %s)', literal($pipeline),
		literal($outbox),
		jsonb({ sink_type => 'inbox', conninfo => $self->conninfo($to), inbox => $inbox, %config }));
}

# For libpq, whatever is in the names.
sub conninfo
{
	my ($self, $db, %args) = @_;
	my %setting = (
		host => $self->{node}->host,
		port => $self->{node}->port,
		user => 'relay',
		dbname => $db,
		%args);
	return join ' ', map { (my $v = $setting{$_}) =~ s/([\\'])/\\$1/g; "$_='$v'" } sort keys %setting;
}

# ---- relays ----

# Starts (or starts again) the relay of a region.  args: for PgTide::Relay, and wait => 0.
sub start_relay
{
	my ($self, $db, %args) = @_;
	my $wait = delete $args{wait};
	delete $self->{relay}{$db} if %args;
	$self->{relay}{$db} //= PgTide::Relay->new(name => $db, conninfo => $self->conninfo($db), %args);
	return $self->{relay}{$db}->start(defined $wait ? (wait => $wait) : ());
}

sub start_relays
{
	my ($self, %args) = @_;
	$self->start_relay($_, %args) for qw(us eu);
	return;
}

# Exit status of each relay.
sub stop_relays
{
	my ($self) = @_;
	return { map { $_ => $self->{relay}{$_}->stop } grep { defined $self->{relay}{$_} } keys %{ $self->{relay} // {} } };
}

# ---- waiting ----

sub count
{
	my ($self, $db, $inbox, $where) = @_;
	return $self->sql($db, sprintf 'SELECT count(*) FROM tide.%s%s', ident("${inbox}_inbox"),
		$where ? " WHERE $where" : '');
}

# Seconds until a query's value is what is wanted (text, or a regular expression); undef: in vain.
sub wait_value
{
	my ($self, $db, $query, $wanted, $limit) = @_;
	my $value = '';
	my $took = wait_until(
		sub {
			$value = $self->sql($db, $query);
			return ref $wanted ? $value =~ $wanted : $value eq $wanted;
		},
		$limit // 30,
		"\"$wanted\" from: $query");
	diag("the value is: $value") unless defined $took;
	return $took;
}

sub wait_count
{
	my ($self, $db, $inbox, $wanted, $limit) = @_;
	return $self->wait_value($db, sprintf('SELECT count(*) FROM tide.%s', ident("${inbox}_inbox")),
		$wanted, $limit);
}

sub wait_state
{
	my ($self, $db, $pipeline, $wanted, $limit) = @_;
	return $self->wait_value($db,
		sprintf('SELECT state FROM tide.pipelines WHERE name = %s', literal($pipeline)),
		$wanted, $limit);
}

# Seconds until the last error of a pipeline matches; undef: in vain.
sub wait_error
{
	my ($self, $db, $pipeline, $pattern, $limit) = @_;
	return $self->wait_value($db,
		sprintf('SELECT last_error FROM tide.pipelines WHERE name = %s', literal($pipeline)),
		$pattern, $limit);
}

1;
